"""The fast KL divergence against the plain one, written as the talk describes it, loop by loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.calibrate.entropy import FEWEST_VALUES, divergences, entropy_amax, entropy_range, without_spikes
from trtd.calibrate.histogram import SIDE_BINS, Histogram


def slow_divergence(counts: list[float], start: int, stop: int, levels: int) -> float:
    """KL(P || Q) of one window, bin by bin."""
    inside = counts[start:stop]
    wanted = list(inside)
    wanted[0] += sum(counts[:start])
    wanted[-1] += sum(counts[stop:])
    width = len(inside)
    level_of = [bin_ * levels // width for bin_ in range(width)]
    quantized = [0.0] * width
    for level in range(levels):
        members = [bin_ for bin_ in range(width) if level_of[bin_] == level and wanted[bin_] > 0]
        total = sum(inside[bin_] for bin_ in range(width) if level_of[bin_] == level)
        for bin_ in members:
            quantized[bin_] = (total or 1.0) / len(members)
    if sum(inside) == 0:
        return math.inf
    divergence = 0.0
    for p, q in zip(wanted, quantized, strict=True):
        if p > 0:
            divergence += p / sum(wanted) * math.log(p / sum(wanted) * sum(quantized) / q)
    return divergence


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 10**9)), min_size=8, max_size=40),
    st.integers(2, 8),
    st.data(),
)
def test_equals_the_loop_for_any_window(counts: list[int], levels: int, data: st.DataObject) -> None:
    """A slip in the running sums would still give a plausible threshold, only not the best one."""
    width = data.draw(st.integers(levels, len(counts)))
    start = data.draw(st.integers(0, len(counts) - width))
    values = [float(count) for count in counts]
    fast = float(divergences(np.array(values), np.array([start]), np.array([start + width]), levels)[0])
    slow = slow_divergence(values, start, start + width, levels)
    assert fast == slow or fast == pytest.approx(slow, abs=1e-9)


def test_equals_the_loop_for_every_threshold(activation: Histogram) -> None:
    """On real shapes the chosen threshold must be the one that the plain method chooses, to the bin."""
    counts = activation.magnitudes()
    stops = [*range(128, len(counts) + 1, 37), len(counts)]
    slow = [slow_divergence(counts.tolist(), 0, stop, 128) for stop in stops]
    fast = divergences(counts, np.zeros(len(stops), np.int64), np.array(stops), 128)
    np.testing.assert_allclose(fast, slow, atol=1e-9)


def test_chooses_the_least_divergence(activation: Histogram) -> None:
    """Whatever the threshold is, no candidate may diverge less."""
    amax = entropy_amax(activation)
    counts, reach = without_spikes(0, activation.magnitudes())
    chosen = len(counts) if amax == activation.amax else round(amax / activation.bin_width)
    if counts.sum() < FEWEST_VALUES:
        assert amax == activation.amax
        return
    stops = np.arange(max(128, reach), len(counts) + 1)
    every = divergences(counts, np.zeros_like(stops), stops, 128)
    assert every[chosen - stops[0]] <= every.min() + 1e-12


def test_clips_an_outlier(observe_values: Callable[[Any], Histogram]) -> None:
    """One value far off must not cost all others their resolution: that is what the method is for."""
    bell = np.random.default_rng(2).standard_normal(100_000)
    assert entropy_amax(observe_values(np.append(bell, 60.0))) < 12
    low, high = entropy_range(observe_values(np.append(bell, 60.0)))
    assert high < 12
    assert low > -12


def test_clips_an_outlier_beyond_a_gap(observe_values: Callable[[Any], Histogram]) -> None:
    """Between the values and a far outlier the histogram is empty, where the plain method divides by zero."""
    bell = np.random.default_rng(2).standard_normal(100_000)
    assert entropy_amax(observe_values(np.append(bell, 500.0))) < 50
    assert entropy_range(observe_values(np.append(bell, -500.0)))[0] > -70


def test_zeros_do_not_steer_the_threshold(observe_values: Callable[[Any], Histogram]) -> None:
    """After ReLU most values are exactly zero; a spike that outweighs the rest drags the threshold down."""
    half = np.abs(np.random.default_rng(3).standard_normal(50_000)) + 0.01
    plain = entropy_amax(observe_values(half))
    assert entropy_amax(observe_values(np.append(half, np.zeros(5_000_000)))) == plain


def test_a_spike_off_zero_does_not_steer_the_threshold(observe_values: Callable[[Any], Histogram]) -> None:
    """A bias after ReLU moves the zeros; they must not drag the threshold down from there either."""
    half = np.abs(np.random.default_rng(3).standard_normal(50_000)) + 0.01
    plain = entropy_amax(observe_values(half))
    assert entropy_amax(observe_values(np.append(half, np.full(500_000, 0.3)))) == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("spike", [4.0, -4.0])
def test_a_spike_is_never_clipped(spike: float, observe_values: Callable[[Any], Histogram]) -> None:
    """The white of a page is one value far out, and half of all pixels: it is levelled, yet must survive."""
    bell = np.clip(np.random.default_rng(3).standard_normal(50_000), -3, 3)
    page = observe_values(np.append(bell, np.full(50_000, spike)))
    assert entropy_amax(page) == 4.0
    low, high = entropy_range(page)
    assert low <= spike <= high


def test_few_values_are_all_kept(observe_values: Callable[[Any], Histogram]) -> None:
    """A squeezed tensor has one value a channel: a divergence of so few is chance, and would clip at random."""
    few = observe_values(np.random.default_rng(3).exponential(size=500))
    assert entropy_amax(few) == few.max
    assert entropy_range(few) == (0.0, few.max)


def test_one_sided_range_uses_all_levels(observe_values: Callable[[Any], Histogram]) -> None:
    """uint8 has 256 levels for a ReLU, so it clips no earlier than int8 with its 128."""
    relu = observe_values(np.maximum(np.random.default_rng(4).standard_normal(100_000), 0))
    low, high = entropy_range(relu)
    assert low == 0
    assert high >= entropy_amax(relu)


def test_few_bins_keep_everything() -> None:
    """With no more bins than levels nothing is gained by clipping, and there is no candidate to choose from."""
    few = Histogram(-1.5, 3.0, 1.0, -2, np.array([1.0, 2, 3, 4, 5]))
    assert entropy_amax(few) == 3.0
    assert entropy_range(few) == (-1.5, 3.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(-60, 60), st.integers(0, 2**32 - 1))
def test_scales_with_the_data(exponent: int, seed: int) -> None:
    """Twice the values, twice the threshold: the unit of a tensor must not matter."""
    counts = np.random.default_rng(seed).integers(0, 1000, SIDE_BINS + 300).astype(np.float64)
    plain = Histogram(-300.0, float(SIDE_BINS) - 0.5, 1.0, -300, counts)
    factor = 2.0**exponent
    scaled = Histogram(-300.0 * factor, (SIDE_BINS - 0.5) * factor, factor, -300, counts)
    assert entropy_amax(scaled) == entropy_amax(plain) * factor
    assert entropy_range(scaled) == tuple(edge * factor for edge in entropy_range(plain))
