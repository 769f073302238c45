"""8-bit upsampling written as copies of rows: the same numbers, from kernels that cost no more than a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantize.graphs import INT8, UINT8, Net, noise, quantize, run
from trtd.quantize.upsample import stride_of_patches, whole_factors

IN_PLACE = replace(UINT8, channels_last=False)


def _resized(factors: tuple[float, float], *, open_sides: bool = False, **attributes: Any) -> onnx.ModelProto:
    side: int | str = "side" if open_sides else 6
    net = Net({"x": ["batch" if open_sides else 1, 8, side, side]})
    scales = net.const("k", np.array([1, 1, *factors], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} | attributes
    large = net.node("Resize", [net.conv("x", "c1", (8, 16)), "", scales], "s", **how)
    return net.model(net.conv(large, "c2", (16, 8)))


@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (8, 8), (1, 4), (2, 1)])
@pytest.mark.parametrize("coordinates", [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")])
def test_copies_are_the_resize_bit_for_bit(factors: tuple[int, int], coordinates: tuple[str, str]) -> None:
    """An engine that reads its neighbour's pixel would still pass a loose gate."""
    model = _resized(factors, coordinate_transformation_mode=coordinates[0], nearest_mode=coordinates[1])
    copied, resized = quantize(model, UINT8), quantize(model, IN_PLACE)
    assert "Resize" in resized.kernels
    assert "Resize" not in copied.kernels
    np.testing.assert_array_equal(copied.found["c2"], resized.found["c2"])


@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (3, 8, 4, 4)])
def test_sides_and_batch_may_be_open(shape: tuple[int, ...]) -> None:
    """An engine for 320 to 960 pixels would only run at the size that it was calibrated at."""
    model = _resized((2, 2), open_sides=True)
    copied, resized = quantize(model, UINT8), quantize(model, IN_PLACE)
    assert "Resize" not in copied.kernels
    feeds = {"x": np.random.default_rng(5).standard_normal(shape).astype(np.float32)}
    np.testing.assert_array_equal(run(copied.model, feeds)["c2"], run(resized.model, feeds)["c2"])


@pytest.mark.parametrize(
    ("factors", "attributes"),
    [
        ((1.5, 1.5), {}),
        ((0.5, 0.5), {}),
        ((2, 2), {"nearest_mode": "ceil"}),
        ((2, 2), {"coordinate_transformation_mode": "align_corners"}),
    ],
)
def test_other_resizes_stay(factors: tuple[float, float], attributes: dict[str, Any]) -> None:
    """Repeating pixels is not what these do."""
    model = _resized(factors, **attributes)
    outcome = quantize(model)
    assert "Resize" in outcome.kernels
    assert outcome.sqnr_db() > 28


def _transposed(
    kernel: tuple[int, int] = (2, 2),
    *,
    out: int = 8,
    after: Sequence[str] = ("Relu",),
    bias: bool = True,
    weight: Sequence[int] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    net = Net({"x": [1, 8, 6, 5]})
    shape = weight or (16, out, *kernel)
    inputs = [net.conv("x", "c1", (8, 16)), net.real("w", net.random.standard_normal(shape) / 4)]
    if bias:
        inputs.append(net.real("b", net.random.standard_normal(out)))
    value = net.node("ConvTranspose", inputs, "t", **{"strides": list(kernel), **attributes})
    for op in after:
        bounds = [net.real("low", 0.0), net.real("high", 2.0)] if op == "Clip" else []
        value = net.node(op, [value, *bounds], "a")
    return net.model(net.conv(value, "c2", (out, 8)))


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (2, 4), (1, 3)])
@pytest.mark.parametrize("after", [("Relu",), ("Clip",), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_runs_as_plain_ones(kernel: tuple[int, int], after: Sequence[str], bias: bool) -> None:
    """Rows or columns of the kernel in the wrong order would scramble every upsampled image."""
    model = _transposed(kernel, after=after, bias=bias)
    outcome = quantize(model)
    assert outcome.kernels["QLinearConv"] == 2 + kernel[0]
    assert "ConvTranspose" not in outcome.kernels
    assert outcome.sqnr_db() > 28
    in_place = quantize(model, IN_PLACE)
    assert "ConvTranspose" in in_place.kernels
    # The same integers up to the last bit of one rounding, where float32 and int32 sums may differ.
    assert np.abs(outcome.found["c2"] - in_place.found["c2"]).max() < 0.05 * np.abs(in_place.found["c2"]).max()


def test_symmetric_activations_upsample_too() -> None:
    """int8 keeps the ReLU as an operator of its own; the rewrite must not lose it."""
    assert quantize(_transposed(), INT8).sqnr_db() > 25


@pytest.mark.parametrize(
    "build",
    [
        {"kernel": (2, 2), "strides": [1, 1]},  # overlaps
        {"kernel": (3, 3), "strides": [2, 2]},
        {"kernel": (2, 2), "pads": [1, 1, 1, 1]},
        {"kernel": (2, 2), "output_padding": [1, 1]},
        {"kernel": (2, 2), "dilations": [2, 2]},
        {"kernel": (2, 2), "auto_pad": "SAME_UPPER"},
        {"kernel": (2, 2), "group": 2, "weight": (16, 4, 2, 2)},
        {"kernel": (2, 2), "out": 1},  # the last layer of a segmentation head: nothing to gain, a lot to lose
    ],
)
def test_other_transposed_convolutions_stay_float(build: dict[str, Any]) -> None:
    """What a 1x1 convolution cannot do would come out wrong; what gains nothing would only lose precision."""
    model = _transposed(**build)
    outcome = quantize(model)
    assert "ConvTranspose" in outcome.kernels
    assert "t" in outcome.written.kept_float
    assert outcome.sqnr_db() > 28


def test_a_resize_that_nothing_8_bit_reads_stays() -> None:
    """There the data is float, channels first, and Resize is what is fast."""
    net = Net({"x": [1, 8, 6, 6]})
    scales = net.const("k", np.array([1, 1, 2, 2], np.float32))
    model = net.model(net.node("Resize", [net.conv("x", "c1", (8, 16)), "", scales], "s", mode="nearest"))
    assert quantize(model).kernels["Resize"] == 1


def test_names_stay_unique_with_several() -> None:
    """Two upsamplings with one name would make a graph that no runtime loads."""
    net = Net({"x": [1, 8, 4, 4]})
    value = net.conv("x", "c", (8, 8))
    for number in range(3):
        scales = net.const(f"k{number}", np.array([1, 1, 2, 2], np.float32))
        value = net.node("Resize", [value, "", scales], f"s{number}", mode="nearest")
        value = net.conv(value, f"c{number}", (8, 8))
    outcome = quantize(net.model(value), data=noise(net.model(value)))
    names = [node.name for node in outcome.model.graph.node]
    assert len(set(names)) == len(names)
    assert outcome.kernels["QLinearConv"] == 4
    assert "Resize" not in outcome.kernels


def test_what_counts_as_repeating_pixels() -> None:
    """ONNX has a dozen ways to write a nearest resize; only some repeat each pixel equally often."""
    model = ir.from_proto(_resized((2, 2), nearest_mode="ceil"))
    assert whole_factors(next(n for n in model.graph if n.op_type == "Resize")) is None
    model = ir.from_proto(_resized((2, 3)))
    assert whole_factors(next(n for n in model.graph if n.op_type == "Resize")) == (2, 3)


def test_what_counts_as_not_overlapping() -> None:
    """Overlapping patches add up, which copies cannot do."""
    node = next(n for n in ir.from_proto(_transposed((2, 4))).graph if n.op_type == "ConvTranspose")
    assert stride_of_patches(node) == (2, 4)
