"""How the errors of an output are distributed."""

from __future__ import annotations

from trtd.calibrate.histogram import Histogram
from trtd.verify.report import OutputErrors

BINS = 64


def error_histogram(histogram: Histogram) -> OutputErrors:
    """``histogram`` of candidate - reference with at most about :data:`BINS` bins, by merging neighbours."""
    counts = [int(c) for c in histogram.counts]
    merge = max(1, -(-len(counts) // BINS))
    merged = [sum(counts[i : i + merge]) for i in range(0, len(counts), merge)]
    edges = [(histogram.first_bin + i * merge) * histogram.bin_width for i in range(len(merged) + 1)]
    return OutputErrors(edges=tuple(edges), counts=tuple(merged))
