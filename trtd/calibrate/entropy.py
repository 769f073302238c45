"""The KL-divergence method: which threshold loses the least information.

After S. Migacz, "8-bit Inference with TensorRT", GTC 2017. For each candidate threshold, the histogram inside it with
everything outside added to its outermost bin is the wanted distribution P; the same bins merged to as many levels as
the number format has and spread out again over the bins that held anything are the quantized distribution Q (made
from the inside alone, so that clipping costs). The threshold of least KL(P || Q) wins.

Three traps. ReLU and its kin leave a spike at zero that outweighs everything else and drags the threshold down, so the
bin at zero is levelled to its neighbour, as in TensorRT; a bias after them (hard-swish in PP-LCNet) moves the spike
off zero, so every bin that towers is levelled, and no threshold clips a levelled spike. Where what lies outside falls
into a level that holds nothing inside, Q counts one value there: the plain method divides by zero, so that a lone
outlier beyond a gap could never be clipped. With few values the divergence is chance: all is kept.

Divergence counts how many values lose, not how much they lose. Where nearly all values crowd into a few bins of a long
range (hard-swish again) it clips hard; ``mse`` and ``percentile`` are kinder there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trtd.calibrate.histogram import SIDE_BINS, Counts, Histogram

AMAX_LEVELS = 128
RANGE_LEVELS = 256

SPIKE_SHARE = 0.01
"""A bin with more values than either neighbour and more than this share of all is a spike."""

FEWEST_VALUES = 2 * SIDE_BINS
"""With fewer values than this beside the spikes, everything is kept."""

Indices = NDArray[np.int64]


def entropy_amax(histogram: Histogram) -> float:
    """Threshold on ``|x|`` with 128 levels; candidates are all bin edges from 128 bins up."""
    counts, reach = without_spikes(0, histogram.magnitudes())
    stops = np.arange(max(AMAX_LEVELS, reach), len(counts) + 1)
    if not stops.size or counts.sum() < FEWEST_VALUES:
        return histogram.amax
    best = _least(divergences(counts, np.zeros_like(stops), stops, AMAX_LEVELS))
    return min(float(stops[best]) * histogram.bin_width, histogram.amax)


def entropy_range(histogram: Histogram) -> tuple[float, float]:
    """Low and high for affine 8-bit.

    The same search with 256 levels on the signed histogram: a threshold T keeps ``[max(min, -T), min(max, T)]``, and
    the levels are spread evenly over what it keeps. So a one-sided tensor is searched with all 256 levels on its side,
    a symmetric one with 128 on each, and a lopsided one (hard-swish) with what lies between.
    """
    first, signed = histogram.signed()
    counts, least_reach = without_spikes(first, signed)
    negative, positive = -first, len(counts) + first
    reach = np.arange(max(1, least_reach), max(negative, positive) + 1)
    starts, stops = negative - np.minimum(reach, negative), negative + np.minimum(reach, positive)
    wide = stops - starts >= RANGE_LEVELS
    low, high = min(histogram.min, 0.0), max(histogram.max, 0.0)
    if not wide.any() or counts.sum() < FEWEST_VALUES:
        return low, high
    best = _least(divergences(counts, starts[wide], stops[wide], RANGE_LEVELS))
    threshold = float(reach[wide][best]) * histogram.bin_width
    return max(low, -threshold), min(high, threshold)


def without_spikes(first_bin: int, counts: Counts) -> tuple[Counts, int]:
    """Level every spike to the larger of its neighbours.

    Returns:
        The counts, and how many bins from zero a threshold must reach to clip none of the spikes.
    """
    padded = np.pad(counts, 1)
    neighbours = np.maximum(padded[:-2], padded[2:])
    spikes = (counts > neighbours) & (counts > SPIKE_SHARE * counts.sum())
    if 0 <= -first_bin < len(counts):
        spikes[-first_bin] = counts[-first_bin] > neighbours[-first_bin]
    bins = np.flatnonzero(spikes) + first_bin
    return np.where(spikes, neighbours, counts), int(np.maximum(bins + 1, -bins).max(initial=0))


def divergences(counts: Counts, starts: Indices, stops: Indices, levels: int) -> NDArray[np.float64]:
    """KL(P || Q) in nats for each window ``[starts[i], stops[i])`` of at least ``levels`` bins.

    Bin ``j`` of a window of ``n`` bins falls into level ``j * levels // n``. Sums over levels are differences of
    running sums, so a window costs O(levels), whatever its width. Infinite for a window that holds nothing.
    """
    inside, filled = _running(counts), _running(counts > 0)
    entropy = _running(_xlogx(counts))
    total = inside[-1]
    left, right = inside[starts], total - inside[stops]
    first, last = counts[starts], counts[stops - 1]

    widths = (stops - starts)[:, None]
    edges = starts[:, None] + (np.arange(levels + 1) * widths + levels - 1) // levels
    q_level = np.diff(inside[edges], axis=1)
    bins = np.diff(filled[edges], axis=1)
    bins[:, 0] += (left > 0) & (first == 0)
    bins[:, -1] += (right > 0) & (last == 0)
    p_level = q_level.copy()
    p_level[:, 0] += left
    p_level[:, -1] += right
    q_level[(q_level == 0) & (p_level > 0)] = 1.0

    p_log_p = entropy[stops] - entropy[starts]
    p_log_p += _xlogx(first + left) - _xlogx(first) + _xlogx(last + right) - _xlogx(last)
    p_log_q = (p_level * np.log(np.divide(q_level, bins, out=np.ones_like(bins), where=p_level > 0))).sum(axis=1)
    kept = inside[stops] - inside[starts]
    divergence = np.full(len(starts), np.inf)
    held = kept > 0
    divergence[held] = ((p_log_p - p_log_q)[held] / total) + np.log(q_level.sum(axis=1)[held] / total)
    return divergence


def _least(divergence: NDArray[np.float64]) -> int:
    """The last of those that are least, up to rounding: of equal thresholds the widest clips least."""
    return int(np.flatnonzero(divergence <= divergence.min() + 1e-12)[-1])


def _running(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.maximum(values, 1.0))  # counts are whole numbers: 0 and 1 both give 0
