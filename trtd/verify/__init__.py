"""Judging: metrics, gates, side-by-side latency, the report."""
