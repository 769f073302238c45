"""The numbers that Q/DQ pairs carry: exact zero, half a step of error, nothing that float32 or int32 cannot hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quantize.graphs import tensor_range
from trtd.calibrate.table import METHODS, Method
from trtd.errors import QuantizationError
from trtd.quantize.scales import (
    BIAS_LIMIT,
    TINY,
    ActivationType,
    Affine,
    activation_scale,
    quantize_weight,
    weight_scales,
    widen_for_bias,
)

LOW = st.floats(-1e30, 0)
HIGH = st.floats(1e-20, 1e30)


def round_trip(values: np.ndarray, affine: Affine) -> np.ndarray:
    scale, zero_point = (array.astype(np.float64) for array in affine.arrays())
    rounded = np.clip(np.rint(values / scale) + zero_point, *affine.limits)
    return np.asarray((rounded - zero_point) * scale)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@settings(max_examples=150, deadline=None)
@given(low=LOW, high=HIGH)
def test_values_in_range_come_back_within_half_a_step(dtype: ActivationType, low: float, high: float) -> None:
    """At the two ends rounding the zero point may cost another half step; anywhere else that would be a bug."""
    affine = activation_scale(tensor_range(low, high), "minmax", dtype)
    values = np.linspace(low, high, 997)
    error = np.abs(round_trip(values, affine) - values)
    inside = (values > low + affine.scale) & (values < high - affine.scale)
    assert error[inside].max(initial=0) <= 0.501 * affine.scale
    assert error.max() <= 1.001 * affine.scale


@settings(max_examples=150, deadline=None)
@given(low=LOW, high=HIGH)
def test_zero_is_exact_and_the_zero_point_fits(low: float, high: float) -> None:
    """Padding and ReLU write zeros: they must stay zeros. A zero point outside uint8 would wrap."""
    affine = activation_scale(tensor_range(low, high), "minmax", "uint8")
    assert 0 <= affine.zero_point <= 255
    assert round_trip(np.zeros(1), affine) == 0
    assert affine.arrays()[1].dtype == np.uint8
    assert np.float32(affine.scale) == affine.scale


def test_ranges_of_one_sign_use_all_256_steps() -> None:
    """A ReLU that started at zero point 128 would waste a bit."""
    assert activation_scale(tensor_range(0.0, 25.5), "minmax", "uint8") == Affine(float(np.float32(0.1)), 0, "uint8")
    assert activation_scale(tensor_range(-25.5, 0.0), "minmax", "uint8").zero_point == 255
    assert activation_scale(tensor_range(-3.0, 12.7), "minmax", "int8") == Affine(float(np.float32(0.1)), 0, "int8")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_named_method_is_used(method: Method, dtype: ActivationType) -> None:
    """All methods lie side by side in a table; taking another one's range would go unseen."""
    plain = tensor_range(-1.0, 1.0)
    other = plain.model_copy(update={"range": plain.range | {method: (0.0, 2.55)}, "amax": plain.amax | {method: 1.27}})
    assert activation_scale(other, method, dtype).scale == pytest.approx(0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scales_that_are_no_numbers_are_refused(bad: float) -> None:
    """A NaN in a table must not become an engine."""
    broken = tensor_range(0.0, 1.0).model_copy(update={"range": {"minmax": (0.0, bad)}, "amax": {"minmax": bad}})
    for dtype in ("uint8", "int8"):
        with pytest.raises(QuantizationError, match="came out of the calibration table"):
            activation_scale(broken, "minmax", dtype)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("axis", [0, 1])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-40, 37))
def test_weights_come_back_within_half_a_step(bits: int, axis: int, seed: int, exponent: float) -> None:
    """Per channel, whatever its size: a scale along the wrong axis would lose whole channels."""
    random = np.random.default_rng(seed)
    spread = (10 ** random.uniform(-3, 0, 5)).reshape([-1, 1] if axis == 0 else [1, -1])
    weight = (random.uniform(-1, 1, (5, 5)) * spread * 10.0**exponent).astype(np.float32)
    scales = weight_scales(weight, axis, bits)
    stored = quantize_weight(weight, scales, axis, bits)
    assert stored.dtype == np.int8
    assert np.abs(stored.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert (scales >= TINY).all()
    per_channel = scales.reshape([-1, 1] if axis == 0 else [1, -1])
    assert (np.abs(stored * per_channel - weight) <= 0.501 * per_channel).all()


def test_channels_of_zeros_get_a_scale_of_one() -> None:
    """Dividing by a scale of zero would make NaN of them."""
    weight = np.array([[0, 0], [1, -2]], np.float32)
    scales = weight_scales(weight, 0, 8)
    assert scales.tolist() == [1.0, pytest.approx(2 / 127)]
    assert quantize_weight(weight, scales, 0, 8).tolist() == [[0, 0], [64, -127]]


@settings(max_examples=150, deadline=None)
@given(
    scale=st.floats(TINY, 1e30), bias=st.floats(-1e30, 1e30), input_scale=st.floats(TINY, 1e30),
)  # fmt: skip
def test_biases_leave_room_for_the_products(scale: float, bias: float, input_scale: float) -> None:
    """onnxruntime adds up in int32 without looking: bias and products together must fit."""
    (raised,) = widen_for_bias(np.array([scale]), np.array([bias]), input_scale)
    assert raised >= scale
    assert abs(bias) / (raised * input_scale) <= BIAS_LIMIT * 1.001
    assert raised * input_scale >= TINY * 0.999  # the scale of the bias, a normal float32
    products = 255 * 127 * 4608  # a 3 x 3 convolution over 512 channels, all weights and inputs at their limits
    assert BIAS_LIMIT + products < 2**31


def test_ordinary_biases_change_nothing() -> None:
    """Widening costs precision; it is for channels that would overflow."""
    scales = np.array([0.01, 0.02])
    assert widen_for_bias(scales, np.array([3.0, -5.0]), 0.05).tolist() == scales.tolist()


def test_a_symmetric_range_is_cut_where_the_operator_is() -> None:
    """With TensorRT's cache, half of the steps behind a ReLU would be for what never comes, and the ReLU would stay."""
    behind_relu = activation_scale(tensor_range(-2.0, 2.0), "minmax", "uint8", 0.0)
    assert behind_relu.zero_point == 0
    assert behind_relu.scale == pytest.approx(2.0 / 255)
    above_one = activation_scale(tensor_range(-2.0, 2.0), "minmax", "uint8", 1.0)
    assert above_one == behind_relu  # zero is always among the steps: padding is made of it
    wide = activation_scale(tensor_range(-2.0, 2.0), "minmax", "uint8")
    assert activation_scale(tensor_range(-2.0, 2.0), "minmax", "uint8", -3.0) == wide
