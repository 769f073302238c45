"""A histogram whose bins never have to be guessed beforehand and whose merging loses nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from fast_histogram import histogram1d  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trtd.calibrate.table import TensorRange

SIDE_BINS = 2048
"""Bins on each side of zero; between half and all of them are in use on the longer side."""

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Counts over bins of equal width that are anchored at zero.

    Bin ``i`` covers ``[(first_bin + i) * bin_width, (first_bin + i + 1) * bin_width)``; no bin straddles zero.

    Attributes:
        min, max: the exact range that was seen.
        bin_width: a power of two; 1.0 if nothing but zeros was seen.
        first_bin: index of ``counts[0]``.
        counts: float64, whole numbers; empty bins at both ends are left out.
    """

    min: float
    max: float
    bin_width: float
    first_bin: int
    counts: Counts

    @classmethod
    def of(cls, tensor: TensorRange) -> Histogram:
        """The histogram that a calibration table keeps for one tensor."""
        counts = np.asarray(tensor.counts, dtype=np.float64)
        return cls(tensor.min, tensor.max, tensor.bin_width, tensor.first_bin, counts)

    @property
    def amax(self) -> float:
        """The largest magnitude that was seen."""
        return max(-self.min, self.max)

    @property
    def values(self) -> int:
        return int(self.counts.sum())

    def signed(self) -> tuple[int, Counts]:
        """Index of the first bin and the counts, extended where needed so that the range includes zero."""
        first, stop = min(self.first_bin, 0), max(self.first_bin + len(self.counts), 0)
        full = np.zeros(stop - first)
        full[self.first_bin - first : self.first_bin - first + len(self.counts)] = self.counts
        return first, full

    def magnitudes(self) -> Counts:
        """Counts of ``|x|``: bin ``k`` covers ``k * bin_width`` to ``(k + 1) * bin_width``."""
        first, full = self.signed()
        negative, positive = full[:-first][::-1] if first else full[:0], full[-first:]
        folded = np.zeros(max(len(negative), len(positive)))
        folded[: len(negative)] += negative
        folded[: len(positive)] += positive
        return folded


class StreamingHistogram:
    """Counts float32 values with bounded memory, whatever their range and order.

    Each side of zero holds at most ``SIDE_BINS`` bins. A value beyond them doubles the width of all bins by
    merging neighbours, which is exact since bins are anchored at zero. So the result depends on the set of
    values alone, not on their order or on how they came in batches.
    """

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._counts: Counts = np.zeros(2 * SIDE_BINS)

    def add(self, values: NDArray[np.float32], low: float, high: float) -> None:
        """Count contiguous finite values whose smallest is ``low`` and whose largest is ``high``."""
        if low == high == 0.0:
            self._counts[SIDE_BINS] += values.size
            return
        self._widen(low, high)
        width = self.bin_width
        if low == high:
            self._counts[SIDE_BINS + math.floor(low / width)] += values.size
        elif low >= 0:
            self._counts[SIDE_BINS:] += histogram1d(values, SIDE_BINS, (0.0, SIDE_BINS * width))
        elif high < 0:
            self._counts[:SIDE_BINS] += histogram1d(values, SIDE_BINS, (-SIDE_BINS * width, 0.0))
        else:
            limit = SIDE_BINS * width
            self._counts += histogram1d(values, 2 * SIDE_BINS, (-limit, limit))
            # fast_histogram computes ``x + limit`` in float64: a negative x too small to change ``limit`` is
            # counted in the bin right of zero. Its true bin is the one left of zero.
            strays = _count_between_zero_and(values, -width * 2.0**-43)
            self._counts[SIDE_BINS] -= strays
            self._counts[SIDE_BINS - 1] += strays

    @property
    def bin_width(self) -> float:
        return 1.0 if self._exponent is None else math.ldexp(1.0, self._exponent)

    def result(self, low: float, high: float) -> Histogram:
        """What was counted so far, given the smallest and the largest value."""
        filled = np.flatnonzero(self._counts)
        if not filled.size:
            return Histogram(low, high, self.bin_width, 0, np.zeros(0))
        first, last = int(filled[0]), int(filled[-1])
        return Histogram(low, high, self.bin_width, first - SIDE_BINS, self._counts[first : last + 1].copy())

    def _widen(self, low: float, high: float) -> None:
        needed = max(_exponent_for(low), _exponent_for(high))
        if self._exponent is None:
            self._exponent = needed
        doublings = max(0, needed - self._exponent)
        half = SIDE_BINS // 2
        for _ in range(min(doublings, SIDE_BINS.bit_length())):  # after that only bins -1 and 0 hold anything
            merged = np.zeros_like(self._counts)
            merged[half : half + SIDE_BINS] = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = merged
        self._exponent += doublings


def _exponent_for(edge: float) -> int:
    """Smallest ``e`` so that ``edge`` lies in ``[-SIDE_BINS * 2**e, SIDE_BINS * 2**e)``."""
    if edge == 0.0:
        return -10_000
    mantissa, exponent = math.frexp(edge)  # 0.5 <= |mantissa| < 1
    if mantissa == -0.5:  # the left edge of a bin belongs to it, the right edge does not
        exponent -= 1
    return exponent - (SIDE_BINS.bit_length() - 1)


_NEGATIVE_ZERO = np.uint32(0x8000_0000)


def _count_between_zero_and(values: NDArray[np.float32], bound: float) -> int:
    """How many values lie in ``[bound, 0)``, for a negative ``bound``; ``-0.0`` does not.

    Seen as int32, negative floats ascend from -0.0 (the smallest integer) with growing magnitude, so that one
    ``min`` nearly always answers "none".
    """
    largest = int(np.float32(bound).view(np.uint32))  # bit patterns 0x80000001 … largest are meant
    if int(values.view(np.int32).min()) + 2**32 > largest:
        return 0
    return int(np.count_nonzero(values.view(np.uint32) - (_NEGATIVE_ZERO + np.uint32(1)) < largest - 0x8000_0000))


def without_zero_spike(first_bin: int, counts: Counts) -> Counts:
    """Level the bin right of zero, where exact zeros are counted, to the larger of its neighbours if it towers.

    ReLU and its kin leave most values exactly zero. Those say nothing about where to clip, and every format
    represents them without error.
    """
    zero = -first_bin
    if not 0 <= zero < len(counts):
        return counts
    neighbours = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < len(counts)]
    levelled = counts.copy()
    levelled[zero] = min(counts[zero], max(neighbours, default=0.0))
    return levelled
