"""Quantized graphs become integer kernels: Q/DQ that onnxruntime cannot fuse is slower than FP32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.quantize.graphs import INT8, UINT8_WEIGHTS_7_BITS, Net, quantize
from trtd.quantize.placement import Placement


def image() -> Net:
    return Net({"x": [1, 8, 12, 12]})


def _relu(net: Net) -> str:
    return net.conv(net.node("Relu", [net.conv("x", "c1", (8, 16))], "r"), "c2", (16, 8))


def _clip(net: Net) -> str:
    bounds = [net.real("low", 0.0), net.real("high", 1.0)]
    return net.conv(net.node("Clip", [net.conv("x", "c1", (8, 16)), *bounds], "r"), "c2", (16, 8))


def _residual(net: Net) -> str:
    one = net.conv("x", "c1", (8, 16))
    return net.conv(net.node("Add", [one, net.conv(one, "c2", (16, 16))], "s"), "c3", (16, 8))


def _concat(net: Net) -> str:
    both = net.node("Concat", [net.conv("x", "c1", (8, 16)), net.conv("x", "c2", (8, 16))], "s", axis=1)
    return net.conv(both, "c3", (32, 8))


def _max_pool(net: Net) -> str:
    return net.conv(net.node("MaxPool", [net.conv("x", "c1", (8, 16))], "s", kernel_shape=[2, 2]), "c2", (16, 8))


def _average_pool(net: Net) -> str:
    pooled = net.node(
        "AveragePool", [net.conv("x", "c1", (8, 16))], "s", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    )
    return net.conv(pooled, "c2", (16, 8))


def _global_pool(net: Net) -> str:
    return net.conv(net.node("GlobalAveragePool", [net.conv("x", "c1", (8, 16))], "s"), "c2", (16, 8), kernel=1)


def _hard_swish(net: Net) -> str:
    return net.conv(net.hard_swish(net.conv("x", "c1", (8, 16)), "h"), "c2", (16, 8))


def _depthwise(net: Net) -> str:
    return net.conv(net.conv(net.conv("x", "c1", (8, 16)), "c2", (16, 16), groups=16), "c3", (16, 8))


def _grouped(net: Net) -> str:
    return net.conv(net.conv("x", "c1", (8, 16), groups=2), "c2", (16, 8))


def _nearest(net: Net) -> str:
    scales = net.const("k", np.array([1, 1, 2, 2], np.float32))
    return net.conv(net.node("Resize", [net.conv("x", "c1", (8, 16)), "", scales], "s", mode="nearest"), "c2", (16, 8))


def _shuffle(net: Net) -> str:
    return net.conv(net.node("DepthToSpace", [net.conv("x", "c1", (8, 16))], "s", blocksize=2), "c2", (4, 8))


def _classifier(net: Net) -> str:
    pooled = net.node("GlobalAveragePool", [net.conv("x", "c1", (8, 16))], "s")
    flat = net.node("Flatten", [pooled], "f")
    weight, bias = net.real("w", net.random.standard_normal((16, 10))), net.real("b", net.random.standard_normal(10))
    return net.node("Gemm", [flat, weight, bias], "g")


def _matmul(net: Net) -> str:
    rows = net.node("Transpose", [net.conv("x", "c1", (8, 16))], "t", perm=[0, 2, 3, 1])
    flat = net.node("Reshape", [rows, net.const("s", np.array([144, 16]))], "f")
    return net.node("MatMul", [flat, net.real("w", net.random.standard_normal((16, 10)))], "m")


@pytest.mark.parametrize(
    ("build", "kernels"),
    [
        (_relu, {"QLinearConv": 2}),
        (_clip, {"QLinearConv": 2}),
        (_residual, {"QLinearConv": 3, "QLinearAdd": 1}),
        (_concat, {"QLinearConv": 3, "QLinearConcat": 1}),
        (_max_pool, {"QLinearConv": 2, "NhwcMaxPool": 1}),
        (_average_pool, {"QLinearConv": 2, "QLinearAveragePool": 1}),
        (_global_pool, {"QLinearConv": 2, "QLinearGlobalAveragePool": 1}),
        (_hard_swish, {"QLinearConv": 2, "QLinearMul": 1, "QuantizeLinear": 2, "DequantizeLinear": 2}),
        (_depthwise, {"QLinearConv": 3}),
        (_grouped, {"QLinearConv": 2}),
        (_nearest, {"QLinearConv": 2, "Concat": 2, "Reshape": 1}),
        (_shuffle, {"QLinearConv": 2, "DepthToSpace": 1}),
        (_classifier, {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1}),
        (_matmul, {"QLinearConv": 1, "Reshape": 1, "MatMulIntegerToFloat": 1}),
    ],
)
def test_onnxruntime_runs_it_in_integers(build: Callable[[Net], str], kernels: dict[str, int]) -> None:
    """Q/DQ that onnxruntime cannot fuse is slower than FP32. One conversion in, one out, integers between."""
    net = image()
    outcome = quantize(net.model(build(net)))
    found = outcome.kernels
    layout = {"Transpose"}  # channels last, and back
    expected = Counter({"QuantizeLinear": 1, "DequantizeLinear": 1}) | Counter(kernels)
    if "QGemm" in kernels or "MatMulIntegerToFloat" in kernels:
        expected["DequantizeLinear"] = 0  # they give float themselves
    assert {op: n for op, n in found.items() if op not in layout} == {op: n for op, n in expected.items() if n}
    assert outcome.sqnr_db() > 28


@pytest.mark.parametrize(
    ("placement", "build"),
    [
        *[(UINT8_WEIGHTS_7_BITS, build) for build in (_relu, _clip, _residual, _concat, _hard_swish, _classifier)],
        *[(INT8, build) for build in (_relu, _clip, _max_pool, _depthwise, _matmul)],
    ],
)
def test_other_placements_keep_their_convolutions_integer(placement: Placement, build: Callable[[Net], str]) -> None:
    """A symmetric engine whose ReLU is folded in thought only runs its convolutions in float, slower than FP32."""
    net = image()
    outcome = quantize(net.model(build(net)), placement)
    assert outcome.kernels["QLinearConv"] == sum(n.op_type == "Conv" for n in outcome.model.graph.node)
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & set(outcome.kernels)
    assert outcome.sqnr_db() > 25


@pytest.mark.parametrize("build", [_residual, _concat, _hard_swish, _average_pool, _global_pool, _classifier])
def test_symmetric_activations_are_precise_everywhere(build: Callable[[Net], str]) -> None:
    """onnxruntime on x86 runs int8 tensors with several readers in float: slow, but not wrong."""
    net = image()
    assert quantize(net.model(build(net)), INT8).sqnr_db() > 28
