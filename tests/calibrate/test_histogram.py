"""The streaming histogram is exact: it counts what floor(x / width) says, whatever the order of the values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trtd.calibrate.histogram import SIDE_BINS, Histogram, StreamingHistogram, without_zero_spike

TINIEST = 2.0**-149
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32, allow_subnormal=True)
NEAR_EDGES = st.builds(
    lambda whole, exponent, nudge: float(np.nextafter(np.float32(whole * 2.0**exponent), np.float32(nudge))),
    st.integers(-SIDE_BINS, SIDE_BINS),
    st.integers(-20, 20),
    st.sampled_from([-math.inf, 0.0, math.inf]),
)
VALUES = st.lists(st.one_of(ANY_FLOAT, NEAR_EDGES, st.just(0.0), st.just(-0.0)), min_size=1, max_size=60)


def stream(batches: Sequence[Sequence[float]]) -> Histogram:
    histogram = StreamingHistogram()
    for batch in batches:
        block = np.array(batch, dtype=np.float32)
        histogram.add(block, float(block.min()), float(block.max()))
    flat = [value for batch in batches for value in batch]
    return histogram.result(min(flat), max(flat))


def slow(values: Sequence[float]) -> tuple[float, dict[int, int]]:
    """The narrowest width that fits, and the count of every bin, by exact arithmetic on Python's numbers."""
    if not any(values):
        return 1.0, {0: len(values)}
    width = TINIEST / SIDE_BINS
    while not all(-SIDE_BINS * width <= value < SIDE_BINS * width for value in values):
        width *= 2
    return width, dict(Counter(math.floor(value / width) for value in values))


def counted(histogram: Histogram) -> dict[int, int]:
    return {histogram.first_bin + i: int(count) for i, count in enumerate(histogram.counts) if count}


@settings(max_examples=300, deadline=None)
@given(VALUES)
@example([-1e-30, 1.0])
@example([-TINIEST, TINIEST])
@example([-TINIEST, 3e38])
@example([-1024.0, -512.0])
@example([2048.0, -2048.0, 2047.9998])
@example([5.0] * 7)
@example([0.0, -0.0])
@example([float(np.finfo(np.float32).max), float(np.finfo(np.float32).min), TINIEST])
def test_counts_every_value_in_its_bin(values: list[float]) -> None:
    """A value beside its bin (an edge, a denormal, a tiny negative) makes ranges depend on rounding luck."""
    histogram = stream([values])
    width, bins = slow(values)
    assert histogram.bin_width == width
    assert counted(histogram) == bins


@settings(max_examples=200, deadline=None)
@given(VALUES, st.randoms(use_true_random=False), st.integers(1, 7))
def test_does_not_depend_on_order_or_batching(values: list[float], random: object, size: int) -> None:
    """If it did, adding a sample or changing the batch would move scales for no reason, and no digest would hold."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    together = stream([values])
    apart = stream([shuffled[i : i + size] for i in range(0, len(shuffled), size)])
    assert (apart.bin_width, counted(apart)) == (together.bin_width, counted(together))


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_large_blocks_agree_with_numpy(shift: float) -> None:
    """The fast counter must agree with an independent one on real amounts of data, with zeros among them."""
    values = (np.random.default_rng(1).standard_normal(200_000) + shift).astype(np.float32)
    values[::3] = 0
    values[1::9] = -0.0
    values[2::7] *= np.float32(1e-25)
    histogram = StreamingHistogram()
    histogram.add(values, float(values.min()), float(values.max()))
    result = histogram.result(float(values.min()), float(values.max()))
    bins, counts = np.unique(np.floor(values.astype(np.float64) / result.bin_width), return_counts=True)
    assert counted(result) == dict(zip(bins.astype(int).tolist(), counts.tolist(), strict=True))


def test_memory_is_bounded() -> None:
    """40 orders of magnitude, one after the other, still fit in the same 2 x 2048 bins."""
    histogram = StreamingHistogram()
    for exponent in range(-40, 39):
        value = np.array([-(10.0**exponent), 10.0**exponent], dtype=np.float32)
        histogram.add(value, float(value[0]), float(value[1]))
    result = histogram.result(-1e38, 1e38)
    assert len(result.counts) <= 2 * SIDE_BINS
    assert result.values == 158


def test_folds_both_sides_by_magnitude() -> None:
    """Symmetric methods read |x|; an off-by-one at zero would double the zero bin or lose one."""
    histogram = Histogram(-3.5, 1.5, 1.0, -4, np.array([1.0, 0, 2, 3, 5, 7]))
    assert histogram.magnitudes().tolist() == [8, 9, 0, 1]
    assert histogram.amax == 3.5


@pytest.mark.parametrize(("first", "counts", "folded"), [(3, [4.0], [0, 0, 0, 4]), (-3, [4.0], [0, 0, 4]), (0, [], [])])
def test_folds_one_sided_and_empty(first: int, counts: list[float], folded: list[int]) -> None:
    """Tensors of one sign have no bin at zero; folding must put the missing ones back."""
    assert Histogram(0, 0, 1.0, first, np.array(counts)).magnitudes().tolist() == folded


@pytest.mark.parametrize(
    ("first", "counts", "levelled"),
    [(0, [90.0, 3, 5], [3, 3, 5]), (-1, [7.0, 90, 3], [7, 7, 3]), (0, [1.0, 3], [1, 3]), (2, [9.0], [9])],
)
def test_levels_only_a_spike_at_zero(first: int, counts: list[float], levelled: list[float]) -> None:
    """Zeros must not steer the clip; anything that is no spike must stay as it was counted."""
    assert without_zero_spike(first, np.array(counts)).tolist() == levelled
