"""Expected quantization noise against quantizing the values themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.calibrate.histogram import Histogram
from trtd.calibrate.noise import NoiseModel, affine_noise, decibels, mse_amax, mse_range, symmetric_noise

Array = np.ndarray[Any, Any]


def real_noise(values: Array, low: float, high: float, steps: int) -> float:
    """Mean squared error of quantizing ``values`` with ``steps`` steps from low to high, zero being one of them."""
    step = (high - low) / steps
    zero = round(-low / step)
    return float(np.mean((values - step * np.clip(np.rint(values / step), -zero, steps - zero)) ** 2))


def expected_noise(histogram: Histogram, amax: float) -> float:
    width = histogram.bin_width
    model = NoiseModel(0, histogram.magnitudes())
    return float(symmetric_noise(model, np.array([amax / width]))[0]) * width**2


def expected_affine_noise(histogram: Histogram, low: float, high: float) -> float:
    width = histogram.bin_width
    model = NoiseModel(*histogram.signed())
    return float(affine_noise(model, np.array([low / width]), np.array([high / width]))[0]) * width**2


@pytest.mark.parametrize("share", [1.0, 0.7, 0.3, 0.05])
@pytest.mark.parametrize("shift", [0.0, 0.8, -3.0])
def test_agrees_with_quantizing_smooth_data(
    share: float, shift: float, observe_values: Callable[[Any], Histogram]
) -> None:
    """The model of the noise is only worth something if quantizing really makes that much."""
    values = (np.random.default_rng(8).standard_normal(300_000) + shift).astype(np.float32).astype(np.float64)
    histogram = observe_values(values)
    amax = histogram.amax * share
    assert expected_noise(histogram, amax) == pytest.approx(real_noise(values, -amax, amax, 254), rel=0.03)
    low, high = share * min(histogram.min, 0), share * max(histogram.max, 0)
    assert expected_affine_noise(histogram, low, high) == pytest.approx(real_noise(values, low, high, 255), rel=0.03)


def test_zeros_make_no_noise(observe_values: Callable[[Any], Histogram]) -> None:
    """Zero is a level of every format: exact zeros dilute the error by their number, no more and no less."""
    half = np.abs(np.random.default_rng(3).standard_normal(50_000)) + 0.1
    with_zeros = observe_values(np.append(half, np.zeros(950_000)))
    assert expected_noise(with_zeros, 3.0) * 20 == pytest.approx(expected_noise(observe_values(half), 3.0), rel=1e-9)


def test_never_worse_than_minmax(activation: Histogram) -> None:
    """A method that promises the least error may not lose to doing nothing."""
    least = expected_noise(activation, mse_amax(activation))
    assert least <= expected_noise(activation, activation.amax) * (1 + 1e-12)
    low, high = mse_range(activation)
    whole = expected_affine_noise(activation, min(activation.min, 0), max(activation.max, 0))
    assert expected_affine_noise(activation, low, high) <= whole * (1 + 1e-12)


def test_nearly_the_least_of_all_clips(activation: Histogram) -> None:
    """The search looks at a hundred candidates; trying thousands must not find anything notably better."""
    every = [expected_noise(activation, amax) for amax in np.linspace(activation.amax / 2000, activation.amax, 2000)]
    assert expected_noise(activation, mse_amax(activation)) <= min(every) * 1.02


def test_nearly_the_least_of_all_ranges(activation: Histogram) -> None:
    """Two ends are searched in turns, which could get stuck; a grid over both must not find anything notably better."""
    lows = np.linspace(min(activation.min, 0), 0, 40)
    highs = np.linspace(0, max(activation.max, 0), 40)
    every = [expected_affine_noise(activation, low, high) for low in lows for high in highs if high > low]
    assert expected_affine_noise(activation, *mse_range(activation)) <= min(every) * 1.02


def test_clips_a_lone_outlier(observe_values: Callable[[Any], Histogram]) -> None:
    """An outlier among many must be given up where it costs more than it is worth."""
    values = np.append(np.random.default_rng(2).standard_normal(1_000_000), 40.0)
    assert mse_amax(observe_values(values)) < 15


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), min_size=1100, max_size=1100),
    st.integers(-80, 80),
    st.integers(0, 1100),
)
def test_scales_with_the_data(counts: list[int], exponent: int, negative: int) -> None:
    """Twice the values, twice the clip, to the last bit."""
    filled = np.array(counts, dtype=np.float64) + 1
    plain = Histogram(-float(negative), 1100.0 - negative, 1.0, -negative, filled)
    factor = 2.0**exponent
    scaled = Histogram(plain.min * factor, plain.max * factor, factor, -negative, filled)
    assert mse_amax(scaled) == mse_amax(plain) * factor
    assert mse_range(scaled) == tuple(edge * factor for edge in mse_range(plain))


def test_signal_is_the_mean_square(observe_values: Callable[[Any], Histogram]) -> None:
    """Without the right signal every decibel is off."""
    values = np.random.default_rng(1).standard_normal(100_000) * 3 + 1
    histogram = observe_values(values)
    signal = NoiseModel(*histogram.signed()).signal() * histogram.bin_width**2
    assert signal == pytest.approx(np.mean(values**2), rel=1e-3)


def test_decibels_of_nothing() -> None:
    """No noise is infinitely good, also where there is no signal; noise without signal is infinitely bad."""
    assert decibels(0.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) == -math.inf
    assert decibels(100.0, 1.0) == pytest.approx(20.0)
