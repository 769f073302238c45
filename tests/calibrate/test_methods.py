"""What every method promises, and the table made of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.calibrate.histogram import Histogram
from trtd.calibrate.methods import SMALLEST_AMAX, ZERO_AMAX, amax_of, expected_sqnr_db, make_table, range_of
from trtd.calibrate.observe import RangeObserver
from trtd.calibrate.table import METHODS, CalibrationTable, Method

Array = np.ndarray[Any, Any]
ANY_VALUES = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=200)


def table_of(**tensors: Any) -> CalibrationTable:
    observers = {}
    for name, values in tensors.items():
        observers[name] = RangeObserver(name)
        observers[name].update(np.asarray(values, dtype=np.float32))
    return make_table(observers, model_digest="sha256:m", set_digest="sha256:s", samples=3)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(values=ANY_VALUES)
def test_ranges_are_usable_whatever_was_seen(method: Method, values: list[float]) -> None:
    """A zero, negative or runaway scale breaks the engine long after calibration, where nobody looks."""
    observer = RangeObserver("t")
    observer.update(np.array(values, dtype=np.float32))
    histogram = observer.histogram()
    amax, (low, high) = amax_of(histogram, method), range_of(histogram, method)
    assert low <= 0 <= high
    assert np.float32((high - low) / 255) >= np.finfo(np.float32).tiny
    assert np.float32(amax / 127) >= np.finfo(np.float32).tiny
    if histogram.amax >= SMALLEST_AMAX:
        assert SMALLEST_AMAX <= amax <= histogram.amax
        assert low >= min(histogram.min, 0)
        assert high <= max(histogram.max, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, -0.0, 2.0**-149, -(2.0**-130)])
def test_nothing_but_zeros_gets_the_documented_fallback(method: Method, value: float) -> None:
    """A dead tensor is common (a pruned channel, an unused branch) and must not divide by zero."""
    observer = RangeObserver("t")
    observer.update(np.full(10, value, dtype=np.float32))
    assert amax_of(observer.histogram(), method) == ZERO_AMAX
    assert range_of(observer.histogram(), method) == (0.0, ZERO_AMAX)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [2.0**-40, 0.5, 2.0**30])
def test_scales_with_the_data(method: Method, factor: float, values: Array) -> None:
    """Twice the values, twice the range, exactly: the unit of a tensor must not matter."""
    plain, scaled = RangeObserver("t"), RangeObserver("t")
    plain.update(values)
    scaled.update(values * np.float32(factor))
    before, after = plain.histogram(), scaled.histogram()
    assert amax_of(after, method) == amax_of(before, method) * factor
    assert range_of(after, method) == tuple(edge * factor for edge in range_of(before, method))


def test_minmax_keeps_everything() -> None:
    """Min-max is the yardstick; it may not round to bins."""
    tensor = table_of(t=[-0.3, 0.1, 0.7]).tensors["t"]
    assert tensor.amax["minmax"] == np.float32(0.7)
    assert tensor.range["minmax"] == (float(np.float32(-0.3)), float(np.float32(0.7)))


@pytest.mark.parametrize("percentile", [99.99, 99.0, 75.0])
def test_percentile_keeps_at_least_its_share(percentile: float, values: Array) -> None:
    """The method is named for the share that it keeps; keeping less would be a lie, keeping much more no clipping."""
    observer = RangeObserver("t")
    observer.update(values)
    histogram = observer.histogram()
    amax = amax_of(histogram, "percentile", percentile)
    low, high = range_of(histogram, "percentile", percentile)
    share = percentile / 100
    assert np.mean(np.abs(values) <= amax) >= share
    assert np.mean((values >= low) & (values <= high)) >= share
    inner = amax - 2 * histogram.bin_width
    assert np.mean(np.abs(values) <= inner) <= share or inner < 2 * histogram.bin_width


def test_percentile_cuts_the_only_end_of_one_sided_tensors(observe_values: Callable[[Any], Histogram]) -> None:
    """A ReLU has nothing to cut at zero: its whole share is cut at the top."""
    relu = observe_values(np.linspace(0, 1, 10_001))
    assert range_of(relu, "percentile", 90.0)[0] == 0
    assert range_of(relu, "percentile", 90.0)[1] == pytest.approx(0.9, abs=2e-3)
    both = observe_values(np.linspace(-1, 1, 10_001))
    assert range_of(both, "percentile", 90.0) == pytest.approx((-0.9, 0.9), abs=2e-3)


def test_expected_sqnr_is_what_quantizing_gives(observe_values: Callable[[Any], Histogram]) -> None:
    """The plot says how many decibels a tensor has; they must be the ones that it gets."""
    values = np.random.default_rng(6).standard_normal(200_000).astype(np.float32)
    table = table_of(t=values)
    for method in METHODS:
        amax = table.tensors["t"].amax[method]
        step = amax / 127
        noise = np.mean((values - step * np.clip(np.rint(values / step), -127, 127)) ** 2)
        real = 10 * math.log10(np.mean(values**2) / noise)
        assert expected_sqnr_db(table.tensors["t"], method) == pytest.approx(real, abs=0.2)
    assert expected_sqnr_db(table.tensors["t"], "mse", affine=True) >= expected_sqnr_db(table.tensors["t"], "mse") - 0.1


def test_expected_sqnr_of_zeros_is_infinite() -> None:
    """Zeros are exact; NaN in a plot would hide that."""
    tensor = table_of(t=np.zeros(4)).tensors["t"]
    assert expected_sqnr_db(tensor, "entropy") == math.inf
    assert expected_sqnr_db(tensor, "entropy", affine=True) == math.inf


def test_table_holds_every_tensor_and_method() -> None:
    """Changing the method later must cost no new pass, so all of them are in the table from the start."""
    table = table_of(first=[1.0, 2.0], second=[-1.0, 0.0, 3.0])
    assert list(table.tensors) == ["first", "second"]
    assert table.tensors["second"].values == 3
    assert sum(table.tensors["second"].counts) == 3
    assert set(table.tensors["first"].amax) == set(table.tensors["first"].range) == set(METHODS)
