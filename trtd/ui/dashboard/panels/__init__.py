"""One file for each part of the screen. Each gives lines that fit the width and height that it is given."""
