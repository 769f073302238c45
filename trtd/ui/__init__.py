"""Shows what the other rooms found: console tables, progress, JSON, the HTML report. Draws; decides nothing."""
