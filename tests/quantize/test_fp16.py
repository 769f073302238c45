"""FP16 halves the file, keeps the interface in FP32, and keeps in FP32 whatever FP16 cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.quantize.graphs import Feeds, Net, noise, relative_l2, run
from trtd.errors import QuantizationError
from trtd.quantize.fp16 import FP32_OPS, to_fp16
from trtd.quantize.tap import tap


def convert(
    model: onnx.ModelProto, folder: Path, data: Sequence[Feeds] | None = None, **excluded: Any
) -> tuple[onnx.ModelProto, list[str], float]:
    """The converted model, the nodes that stayed FP32, and the largest relative L2 of any output."""
    onnx.save(model, folder / "model.onnx")
    kept = to_fp16(folder / "model.onnx", folder / "fp16.onnx", **excluded)
    made = onnx.load(folder / "fp16.onnx")
    onnx.checker.check_model(made, full_check=True)
    for before, after in ((model.graph.input, made.graph.input), (model.graph.output, made.graph.output)):
        kinds = [(v.name, v.type.tensor_type.elem_type) for v in before]
        assert kinds == [(v.name, v.type.tensor_type.elem_type) for v in after]
    (feeds,) = (data or noise(model, 1))[:1]
    wanted, found = run(model, feeds), run(made, feeds)
    return made, kept, max(relative_l2(wanted[name], found[name]) for name in wanted)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, as onnx infers it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in inferred.initializer}


def inputs_of(model: onnx.ModelProto, op: str) -> set[int]:
    known = types(model)
    return {known[name] for node in model.graph.node if node.op_type == op for name in node.input if name}


def test_weights_and_activations_are_fp16_and_the_interface_is_not(tmp_path: Path) -> None:
    """Callers feed and read float32; the file is for the weights to be half as large."""
    net = Net({"x": ["n", 32, 8, 8]})
    model = net.model(net.conv(net.node("Relu", [net.conv("x", "c1", (32, 32))], "r"), "y", (32, 32)))
    made, kept, error = convert(model, tmp_path)
    assert kept == []
    assert inputs_of(made, "Conv") == {TensorProto.FLOAT16}
    assert error < 1e-3
    sizes = [(tmp_path / name).stat().st_size for name in ("fp16.onnx", "model.onnx")]
    assert sizes[0] < 0.55 * sizes[1]


@pytest.mark.parametrize("op", ["Softmax", "ReduceMean", "ReduceSum", "Exp", "Sqrt", "GlobalAveragePool", "Pow"])
def test_operators_that_overflow_stay_fp32(op: str, tmp_path: Path) -> None:
    """Sums and exponentials leave FP16's range, or lose their small terms in it."""
    net = Net({"x": [1, 8, 6, 6]})
    positive = net.node("Abs", [net.conv("x", "c", (8, 8))], "a")
    inputs = [positive, net.real("two", 2.0)] if op == "Pow" else [positive]
    both = net.node("Add", [positive, net.node(op, inputs, "op")], "both")
    made, kept, error = convert(net.model(net.conv(both, "y", (8, 8))), tmp_path)
    assert kept == ["op"]
    assert op in FP32_OPS
    assert inputs_of(made, op) == {TensorProto.FLOAT}
    assert inputs_of(made, "Conv") == {TensorProto.FLOAT16}
    assert error < 2e-3


def test_normalizations_stay_fp32(tmp_path: Path) -> None:
    """Both kinds that ONNX has as one operator."""
    net = Net({"x": [1, 8, 6, 6]})
    value = net.conv("x", "c", (8, 8))
    value = net.node("InstanceNormalization", [value, net.real("s", np.ones(8)), net.real("b", np.zeros(8))], "i")
    value = net.node("LayerNormalization", [value, net.real("g", np.ones(6))], "l")
    made, kept, error = convert(net.model(value), tmp_path)
    assert kept == ["i", "l"]
    assert inputs_of(made, "LayerNormalization") == inputs_of(made, "InstanceNormalization") == {TensorProto.FLOAT}
    assert error < 2e-3


@pytest.mark.parametrize("spread", [1e-3, 1.0, 2e3])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_a_normalization_in_pieces_stays_in_range(spread: float, epsilon: float, tmp_path: Path) -> None:
    """Exporters write LayerNorm as Sub, Pow, ReduceMean, Add, Sqrt, Div: squares of 300 exceed FP16 on the way.

    The pieces that stay FP32 must pass FP32 to each other, not FP16 in between.
    """
    net = Net({"x": [4, 64]})
    centred = net.node("Sub", ["x", net.node("ReduceMean", ["x"], "mean", axes=[-1])], "centred")
    square = net.node("Pow", [centred, net.real("two", 2.0)], "square")
    variance = net.scalar("Add", net.node("ReduceMean", [square], "variance", axes=[-1]), "stable", epsilon)
    model = net.model(net.node("Div", [centred, net.node("Sqrt", [variance], "deviation")], "y"))
    _, kept, error = convert(model, tmp_path, noise(model, spread=spread))
    assert {"mean", "square", "variance", "deviation"} <= set(kept)
    assert error < 2e-3


@pytest.mark.parametrize("large", [1e6, -3e38, 65520.0])
def test_constants_beyond_fp16_keep_their_value(large: float, tmp_path: Path) -> None:
    """Attention masks and pixel scales lie beyond 65504; the converter would clip them there without a word."""
    net = Net({"x": [4, 64]})
    net.real("large", np.r_[np.full(32, large), np.ones(32)])
    net.node("Add", ["x", "large"], "masked")
    model = net.model(net.scalar("Mul", "masked", "y", 0.5))
    made, kept, error = convert(model, tmp_path)
    assert kept == ["masked"]
    assert types(made)["large"] == TensorProto.FLOAT
    # the sum itself then meets FP16 in the Mul: only what is excluded from there on stays exact
    made, kept, error = convert(model, tmp_path, exclude=["y"])
    assert error < 1e-6


def test_small_constants_keep_their_value(tmp_path: Path) -> None:
    """1e-8 is a subnormal FP16 of no digits: a product with it would be wrong by tens of percent."""
    net = Net({"x": [4, 64]})
    small = net.scalar("Mul", "x", "small", 3.3e-8)
    model = net.model(net.scalar("Mul", small, "y", 1e7))
    _, kept, error = convert(model, tmp_path)
    assert kept == ["small", "y"]
    assert error < 1e-6


def test_infinities_in_masks_stay_infinite(tmp_path: Path) -> None:
    """FP16 has infinity: a mask of -inf needs no FP32."""
    net = Net({"x": [4, 8]})
    net.real("mask", np.r_[np.full(4, -np.inf), np.zeros(4)])
    model = net.model(net.node("Softmax", [net.node("Add", ["x", "mask"], "masked")], "y"))
    made, kept, error = convert(model, tmp_path)
    assert kept == ["y"]
    assert not run(made, noise(model, 1)[0])["y"][:, :4].any()
    assert error < 2e-3


def test_exclusions_by_name_glob_and_operator(tmp_path: Path) -> None:
    """What a spec excludes stays FP32 down to its weights."""
    net = Net({"x": [1, 8, 6, 6]})
    model = net.model(net.conv(net.conv("x", "head/a", (8, 8)), "tail/a", (8, 8)))
    for pattern in ("tail/a", "tail/*"):
        made, kept, error = convert(model, tmp_path, exclude=[pattern])
        assert kept == ["tail/a"]
        assert types(made)["tail/a_w"] == TensorProto.FLOAT
        assert types(made)["head/a_w"] == TensorProto.FLOAT16
        assert error < 1e-3
    made, kept, error = convert(model, tmp_path, exclude_ops=["Conv"])
    assert kept == ["head/a", "tail/a"]
    assert error == 0
    assert TensorProto.FLOAT16 not in types(made).values()


def test_a_weight_of_excluded_and_other_nodes(tmp_path: Path) -> None:
    """Shared weights: the FP16 reader decides the stored type, both must run."""
    net = Net({"x": [1, 8, 6, 6]})
    one = net.conv("x", "one", (8, 8))
    two = net.node("Conv", [one, "one_w", "one_b"], "two", pads=[1, 1, 1, 1])
    _, kept, error = convert(net.model(two), tmp_path, exclude=["two"])
    assert kept == ["two"]
    assert error < 2e-3


def test_integer_tensors_and_resizes_survive(tmp_path: Path) -> None:
    """Shapes, indices and the scales of Resize are not to become FP16."""
    net = Net({"x": ["n", 8, "h", "w"]})
    scales = net.real("k", [1, 1, 2, 2])
    large = net.node("Resize", [net.conv("x", "c", (8, 8)), "", scales], "large", mode="linear")
    best = net.node("ArgMax", [large], "best", axis=1)
    model = net.model(large)
    model.graph.output.append(onnx.helper.make_tensor_value_info(best, TensorProto.INT64, None))
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    made, _, error = convert(model, tmp_path)
    assert types(made)["k"] == TensorProto.FLOAT
    assert error < 0.2  # of the indices, where two channels are close


def test_inner_tensors_can_be_tapped(tmp_path: Path) -> None:
    """Verification looks into the FP16 engine by the names of the FP32 graph."""
    net = Net({"x": [1, 8, 6, 6]})
    inner = net.node("GlobalAveragePool", [net.node("Relu", [net.conv("x", "c", (8, 8))], "r")], "p")
    model = net.model(net.conv(inner, "y", (8, 8), kernel=1))
    convert(model, tmp_path)
    names = tap(tmp_path / "fp16.onnx", ["c", "r", "p"], tmp_path / "tapped.onnx")
    assert "r" in names
    (feeds,) = noise(model, 1)
    found = run(onnx.load(tmp_path / "tapped.onnx"), feeds)
    assert found["r"].dtype == np.float16
    assert relative_l2(np.maximum(run(model, feeds)["y"], 0), np.maximum(found["y"], 0)) < 2e-3


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """By name, like everything that comes from a store."""
    (tmp_path / "torn.onnx").write_bytes(b"no model")
    with pytest.raises(QuantizationError, match=r"torn\.onnx"):
        to_fp16(tmp_path / "torn.onnx", tmp_path / "out.onnx")
