"""Open ends are closed, and scales follow what is folded into weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantize.graphs import Array, Net, relative_l2, run
from trtd.model.paddle_scales import Scaled
from trtd.model.pir_cut import Cut, Kind
from trtd.model.pir_rounding import Rounding
from trtd.quantize.imported import ImportedQuantization
from trtd.quantize.imported_scales import Names, whole_weight
from trtd.quantize.stitch import Stitched, fold, record, stitch

RANDOM = np.random.default_rng(0)


def _scaled(kind: Kind, name: str, source: str, amax: Any, weight: Array | None = None, axis: int = -1) -> Scaled:
    scale = f"{name}@scale"
    rounding = Rounding(1, 2, name if kind == "weight" else "", True, (scale,), (), axis, kind == "observed", False)
    return Scaled(Cut(kind, name, source, rounding, ()), np.asarray(amax, np.float64), weight)


def _integers(*shape: int) -> Array:
    return RANDOM.integers(-127, 128, shape).astype(np.int8)


class Open:
    """x -> [rounded: r] -> Conv by weight w -> ``behind`` -> y, with the ends open."""

    def __init__(self, weight: Array, amax: Any, axis: int = 0) -> None:
        self.net = Net({"x": ["N", 3, 4, 4], "r": ["N", 3, 4, 4], "w": list(weight.shape)})
        self.weight, self.amax, self.axis = weight, np.asarray(amax, np.float64), axis
        self.last = self.net.node("Conv", ["r", "w"], "conv", pads=[1, 1, 1, 1])
        self.scaled = [_scaled("weight", "w", "", amax, weight, axis), _scaled("rounded", "r", "x", 4.0)]
        self.extra: list[str] = []

    def behind(self, op: str, *arrays: Any, observed: float | None = None) -> Open:
        constants = [self.net.real(f"{op}_{len(self.net.nodes)}_{i}", array) for i, array in enumerate(arrays)]
        if observed is not None:
            self.extra.append(self.last)
            self.scaled.append(_scaled("observed", f"seen_{self.last}", self.last, observed))
        self.last = self.net.node(op, [self.last, *constants], f"{op.lower()}_{len(self.net.nodes)}")
        return self

    def closed(self) -> tuple[onnx.ModelProto, Stitched]:
        self.net.node("Relu", [self.last], "y")
        model = ir.from_proto(self.net.model("y", *self.extra))
        stitched = stitch(model, self.scaled, 1)
        return ir.to_proto(model), stitched


def _channel(*numbers: float) -> Array:
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


def _same_result(before: onnx.ModelProto, after: ir.Model) -> bool:
    made = ir.to_proto(after)
    onnx.checker.check_model(made)
    feeds = {"x": RANDOM.standard_normal((2, 3, 4, 4)).astype(np.float32)}
    return relative_l2(run(before, feeds)["y"], run(made, feeds)["y"]) <= 1e-6


def _whole(model: ir.Model, quantization: ImportedQuantization) -> Array:
    (weight,) = quantization.weights
    return whole_weight(Names(model.graph), weight)


def test_closed_ends_leave_a_float_graph_with_marks() -> None:
    """Whoever runs it sees the model's own inputs and outputs, and Paddle's weights, dequantized."""
    weight, amax = _integers(2, 3, 3, 3), [1.0, 3.0]
    before, stitched = Open(weight, amax).behind("Add", _channel(1, 2), observed=7.0).closed()
    assert [value.name for value in before.graph.input] == ["x"]
    assert [value.name for value in before.graph.output] == ["y"]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in before.graph.initializer}["w"]
    np.testing.assert_allclose(stored, weight * np.array(amax).reshape(2, 1, 1, 1) / 127, rtol=1e-6)
    quantization = record(stitched, "sha256:x")
    (rounded,), (observed,) = quantization.activations, quantization.observed
    assert (rounded.tensor, rounded.amax, observed.amax) == ("x", 4.0, 7.0)
    mark = next(node for node in stitched.model.graph if node.op_type == "Identity")
    assert (mark.inputs[0].name, mark.outputs[0].name) == ("x", rounded.rounded)  # type: ignore[union-attr]


@pytest.mark.parametrize("axis", [0, -1], ids=["channels", "one scale"])
def test_batch_norm_goes_into_the_scales_and_not_into_the_integers(axis: int) -> None:
    """The integers are what Paddle found to be good; with a negative factor they change sign, and nothing else."""
    weight = _integers(3, 3, 3, 3)
    gamma, beta, mean, variance = (np.array(a, np.float32) for a in ([2, -0.5, 0], [0.1, 0, 1], [1, 2, 3], [4, 1, 1]))
    opened = Open(weight, [1.0, 2.0, 3.0] if axis == 0 else 2.0, axis)
    before, stitched = opened.behind("BatchNormalization", gamma, beta, mean, variance, observed=9.0).closed()
    assert fold(stitched) == 1
    quantization = record(stitched, "sha256:x")
    assert _same_result(before, stitched.model)
    factor = gamma / np.sqrt(variance + 1e-5)
    scales = np.array(quantization.weights[0].amax)
    np.testing.assert_allclose(scales[:2], (np.broadcast_to(opened.amax, 3) * np.abs(factor))[:2], rtol=1e-6)
    whole = _whole(stitched.model, quantization)
    np.testing.assert_array_equal(whole[:2], weight[:2] * np.array([1, -1]).reshape(2, 1, 1, 1))
    assert not whole[2].any()
    assert quantization.observed == ()  # what was seen between the two is no tensor any more


def test_a_fold_that_would_lose_an_integer_does_not_happen() -> None:
    """-128 has no opposite in int8; trained models have it."""
    weight = _integers(2, 3, 3, 3)
    weight[1, 0, 0, 0] = -128
    before, stitched = Open(weight, [1.0, 2.0]).behind("Mul", _channel(-1, -1)).closed()
    assert fold(stitched) == 0
    assert _same_result(before, stitched.model)
    np.testing.assert_array_equal(_whole(stitched.model, record(stitched, "sha256:x")), weight)


def test_a_scale_that_would_vanish_is_not_made() -> None:
    """Its inverse is infinite in float32."""
    before, stitched = Open(_integers(2, 3, 3, 3), [1.0, 2.0]).behind("Mul", _channel(1, 1e-38)).closed()
    assert fold(stitched) == 0
    assert _same_result(before, stitched.model)


def test_an_observed_range_moves_with_the_tensor() -> None:
    """A convolution takes over the output of the step behind it: its own old range would clip that."""
    opened = Open(_integers(2, 3, 3, 3), [1.0, 2.0])
    opened.behind("Mul", _channel(10, 20), observed=5.0).behind("Add", _channel(1, 1), observed=50.0)
    opened.scaled.append(_scaled("observed", "final", opened.last, 51.0))
    opened.extra.append(opened.last)
    _, stitched = opened.closed()
    assert fold(stitched) == 2
    (observed,) = record(stitched, "sha256:x").observed
    conv = next(node for node in stitched.model.graph if node.op_type == "Conv")
    assert (observed.tensor, observed.amax) == (conv.outputs[0].name, 51.0)


def test_the_range_of_an_input_is_kept() -> None:
    """A target may round an input that Paddle only observed."""
    opened = Open(_integers(2, 3, 3, 3), [1.0, 2.0])
    opened.scaled.append(_scaled("observed", "seen", "x", 6.0))
    _, stitched = opened.closed()
    fold(stitched)
    (observed,) = record(stitched, "sha256:x").observed
    assert (observed.tensor, observed.amax) == ("x", 6.0)


def test_a_constant_is_rounded_at_once() -> None:
    """Paddle rounds biases when it runs; as a Q/DQ pair it would keep a bias from being folded."""
    net = Net({"x": ["N", 2], "r": [2]})
    net.node("Identity", [net.real("b", [0.5, -1.0])], "copy")
    net.node("Add", ["x", "r"], "y")
    model = ir.from_proto(net.model("y", "copy"))
    stitched = stitch(model, [_scaled("rounded", "r", "copy", 1.0)], 1)
    assert record(stitched, "sha256:x").activations == ()
    (y,) = run(ir.to_proto(model), {"x": np.zeros((1, 2), np.float32)}).values()
    np.testing.assert_allclose(y, [[64 / 127, -1.0]], rtol=1e-6)
