"""Folding must be exact wherever it happens, and must not happen where a constant is not one number per channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.quantize.graphs import FLOAT, Net, noise, relative_l2, run
from trtd.quantize.fold import fold_affine, fold_residual_gates, fuse_biases, output_channel_axis

OUT = 6  # channels of every layer below; no other dimension has this size unless a test wants the confusion


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    graph = ir.from_proto(model)
    count = fold_affine(graph)
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    return made, count


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, bound: float = 1e-6) -> None:
    for feeds in noise(before, 2):
        wanted, found = run(before, feeds), run(after, feeds)
        assert list(wanted) == list(found)
        for name, array in wanted.items():
            assert relative_l2(array, found[name]) <= bound, name


def layer(net: Net, kind: str, bias: bool = True) -> str:
    """A layer of ``OUT`` output channels, named ``layer``."""
    if kind == "transposed":
        weight = net.random.standard_normal((4, OUT, 3, 3))
        inputs = ["x", net.real("w", weight), *([net.real("b", net.random.standard_normal(OUT))] if bias else [])]
        return net.node("ConvTranspose", inputs, "layer", strides=[2, 2], output_padding=[1, 1])
    if kind == "depthwise":
        return net.conv("x", "layer", (OUT, OUT), groups=OUT, bias=bias)
    if kind == "one_dimensional":
        weight = net.random.standard_normal((OUT, 4, 3))
        return net.node("Conv", ["x", net.real("w", weight)], "layer", pads=[1, 1])
    return net.conv("x", "layer", (4, OUT), bias=bias, auto_pad="SAME_UPPER", strides=[2, 2], pads=None)


def net_for(kind: str, seed: int = 0) -> Net:
    shape = {"one_dimensional": [2, 4, 7], "depthwise": [2, OUT, 7, 5]}.get(kind, [2, 4, 7, 5])
    return Net({"x": shape}, seed=seed)


def batch_norm(net: Net, x: str, name: str, channels: int = OUT) -> str:
    random = net.random
    parts = [random.uniform(-2, 2, channels), random.standard_normal(channels), random.standard_normal(channels)]
    parts.append(random.uniform(1e-3, 3, channels))
    inputs = [net.real(f"{name}_{i}", part) for i, part in enumerate(parts)]
    return net.node("BatchNormalization", [x, *inputs], name, epsilon=1e-3)


KINDS = ["plain", "depthwise", "transposed", "one_dimensional"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_normalization_folds_exactly(kind: str, bias: bool) -> None:
    """A wrong axis or a forgotten bias would shift every channel, and calibration would hide it in the scales."""
    net = net_for(kind)
    model = net.model(batch_norm(net, layer(net, kind, bias), "y"))
    made, count = folded(model)
    assert count == 1
    assert len(made.graph.node) == 1
    assert_same(model, made)


@pytest.mark.parametrize("op", ["Mul", "Add"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (OUT, 1, 1), (1, OUT, 1, 1)])
@pytest.mark.parametrize("kind", ["plain", "depthwise", "transposed"])
def test_scalars_and_channel_constants_fold_exactly(kind: str, op: str, shape: tuple[int, ...], first: bool) -> None:
    """Exporters write the same affine step in all these shapes and orders; each that is left costs a pass in INT8."""
    net = net_for(kind)
    out = layer(net, kind)
    constant = net.real("k", net.random.standard_normal(shape))
    model = net.model(net.node(op, [constant, out] if first else [out, constant], "y"))
    made, count = folded(model)
    assert count == 1
    assert [node.op_type for node in made.graph.node] == [model.graph.node[0].op_type]
    assert_same(model, made)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["plain", "depthwise", "transposed"]),
    steps=st.lists(st.sampled_from(["Mul", "Add", "scalar", "norm"]), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_any_chain_of_affine_steps_folds_away(kind: str, steps: list[str], seed: int) -> None:
    """Paddle's LearnableAffineBlock after BatchNorm is such a chain; folding the second step must see the first."""
    net = net_for(kind, seed)
    value = layer(net, kind)
    for i, step in enumerate(steps):
        name = f"s{i}"
        if step == "norm":
            value = batch_norm(net, value, name)
        elif step == "scalar":
            value = net.scalar("Mul", value, name, net.random.uniform(0.2, 3, (1,)))
        else:
            value = net.node(step, [value, net.real(f"k{i}", net.random.uniform(-2, 2, (OUT, 1, 1)))], name)
    model = net.model(value)
    made, count = folded(model)
    assert count == len(steps)
    assert len(made.graph.node) == 1
    assert_same(model, made)


def test_extreme_normalization_does_not_overflow() -> None:
    """A dead channel has variance 0 and gamma 0; a float32 division on the way would make NaN of it."""
    net = net_for("plain")
    out = layer(net, "plain")
    arrays = [[1e-8, 0, 1e4, 1, -1, 1e-3], [0, 1, -1e3, 0, 0, 0], [0] * 6, [0, 0, 1e8, 1e-12, 1, 1]]
    inputs = [net.real(f"k{i}", np.array(array)) for i, array in enumerate(arrays)]
    model = net.model(net.node("BatchNormalization", [out, *inputs], "y", epsilon=1e-5))
    made, count = folded(model)
    assert count == 1
    assert_same(model, made)


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("Mul", (OUT,)),  # broadcasts over width, which is 6 here as the channels are
        ("Add", (OUT,)),
        ("Mul", (1, OUT)),
        ("Mul", (OUT, 1)),  # over height
        ("Add", (1, 1, OUT, OUT)),
        ("Mul", (OUT, OUT, 1)),
        ("Add", (1, OUT, OUT, 1)),
        ("Mul", (1, 1, 1, 1, 1)),  # adds a dimension
        ("Add", (OUT, 1, 1, 1)),  # over the batch
    ],
)
def test_other_broadcasts_are_left_alone(op: str, shape: tuple[int, ...]) -> None:
    """A constant of as many numbers as there are channels need not be one per channel: here the image is 6 x 6."""
    net = Net({"x": [OUT, 4, OUT, OUT]})
    out = net.conv("x", "layer", (4, OUT))
    model = net.model(net.node(op, [out, net.real("k", net.random.standard_normal(shape))], "y"))
    made, count = folded(model)
    assert count == 0
    assert_same(model, made, bound=0)


def test_a_single_channel_is_not_widened() -> None:
    """One channel times a constant of three makes three: the constant is no factor of the weights."""
    net = Net({"x": [1, 4, 5, 5]})
    out = net.conv("x", "layer", (4, 1))
    model = net.model(net.node("Mul", [out, net.real("k", np.ones((1, 3, 1, 1)))], "y"))
    assert folded(model)[1] == 0


def _other_reader(net: Net) -> list[str]:
    out = layer(net, "plain")
    return [net.scalar("Mul", out, "y", [2.0]), net.node("Relu", [out], "z")]


def _graph_output(net: Net) -> list[str]:
    out = layer(net, "plain")
    return [net.scalar("Mul", out, "y", [2.0]), out]


def _square(net: Net) -> list[str]:
    out = layer(net, "plain")
    return [net.node("Mul", [out, out], "y")]


def _computed_factor(net: Net) -> list[str]:
    out = layer(net, "plain")
    return [net.node("Mul", [out, net.node("GlobalAveragePool", [out], "gate")], "y")]


def _computed_bias(net: Net) -> list[str]:
    bias = net.scalar("Mul", net.node("ReduceMean", ["x"], "mean", axes=[0, 1, 2, 3], keepdims=0), "b", np.ones(OUT))
    out = net.node("Conv", ["x", net.real("w", net.random.standard_normal((OUT, 4, 3, 3))), bias], "layer")
    return [net.scalar("Mul", out, "y", [2.0])]


def _computed_weight(net: Net) -> list[str]:
    factor = net.node("ReduceMean", ["x"], "mean", axes=[0, 1, 2, 3], keepdims=0)
    weight = net.node("Mul", [factor, net.real("w", net.random.standard_normal((OUT, 4, 3, 3)))], "weight")
    return [net.scalar("Mul", net.node("Conv", ["x", weight], "layer"), "y", [2.0])]


def _grouped_transpose(net: Net) -> list[str]:
    weight = net.real("w", net.random.standard_normal((4, OUT // 2, 3, 3)))
    out = net.node("ConvTranspose", ["x", weight], "layer", group=2)
    return [net.node("Mul", [out, net.real("k", net.random.standard_normal((OUT, 1, 1)))], "y")]


def _other_operator(net: Net) -> list[str]:
    return [net.scalar("Sub", layer(net, "plain"), "y", [2.0])]


@pytest.mark.parametrize(
    "build",
    [
        _other_reader, _graph_output, _square, _computed_factor, _computed_bias, _computed_weight, _grouped_transpose,
        _other_operator,
    ],
)  # fmt: skip
def test_what_must_not_fold_is_left_alone(build: Any) -> None:
    """Each of these reads the layer elsewhere, or has no constant to fold; folding would change an output."""
    net = net_for("plain")
    model = net.model(*build(net))
    made, count = folded(model)
    assert count == 0
    assert_same(model, made, bound=0)


def test_a_reader_inside_a_branch_is_left_alone() -> None:
    """The only reader may stand in the body of an If, where it runs on one branch only and belongs to another graph."""
    net = net_for("plain")
    net.inputs["z"] = [2, OUT, 4, 3]
    out = layer(net, "plain")
    net.real("two", [2.0])
    bodies = {
        name: helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])
        for name, node in {
            "then": helper.make_node("Mul", [out, "two"], ["then"]),
            "else": helper.make_node("Neg", ["z"], ["else"]),
        }.items()
    }
    condition = net.const("yes", np.array(True))
    model = net.model(net.node("If", [condition], "y", then_branch=bodies["then"], else_branch=bodies["else"]))
    made, count = folded(model)
    assert count == 0
    assert_same(model, made, bound=0)


def test_a_graph_output_keeps_its_name() -> None:
    """Callers ask for outputs by name; the folded graph must answer to the same ones."""
    net = net_for("plain")
    model = net.model(net.scalar("Add", batch_norm(net, layer(net, "plain"), "n"), "answer", [1.0]))
    made, count = folded(model)
    assert count == 2
    assert [output.name for output in made.graph.output] == ["answer"]
    assert_same(model, made)


def test_shared_weights_are_folded_for_one_user_only() -> None:
    """Detection heads share one weight over several levels; the other level's must stay what they are."""
    net = Net({"x": [1, 4, 5, 5], "z": [1, 4, 5, 5]})
    first = net.conv("x", "one", (4, OUT))
    second = net.node("Conv", ["z", "one_w", "one_b"], "two", pads=[1, 1, 1, 1])
    model = net.model(net.scalar("Mul", first, "y", [3.0]), second)
    made, count = folded(model)
    assert count == 1
    assert_same(model, made)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("product_first", [False, True])
def test_residual_gates_fold_exactly(swapped: bool, product_first: bool) -> None:
    """``x + x * g`` is ``x * (1 + g)`` in every order of writing it."""
    net = Net({"x": [2, 4, 5, 5]})
    gate = net.node("Sigmoid", [net.conv(net.node("GlobalAveragePool", ["x"], "p"), "c", (4, 4), kernel=1)], "g")
    product = net.node("Mul", [gate, "x"] if swapped else ["x", gate], "m")
    model = net.model(net.node("Add", [product, "x"] if product_first else ["x", product], "y"))
    graph = ir.from_proto(model)
    assert fold_residual_gates(graph) == 1
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    assert [node.op_type for node in made.graph.node][-2:] == ["Add", "Mul"]
    assert made.graph.node[-1].output[0] == "y"
    assert_same(model, made)


def _gated(gate_shape: list[int], *, dtype: Any = np.float32, read_twice: bool = False, other: bool = False) -> Any:
    net = Net({"x": [2, 4, 5, 5], "g": gate_shape, "z": [2, 4, 5, 5]}, dtype=dtype)
    product = net.node("Mul", ["x", "g"], "m")
    outputs = [net.node("Add", ["z" if other else "x", product], "y")]
    return net.model(*outputs, *([net.node("Relu", [product], "r")] if read_twice else []))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(_gated([2, 4, 5, 5]), id="gate of full size"),
        pytest.param(_gated([5]), id="gate over width"),
        pytest.param(_gated([2, 4, 1, 1], dtype=np.float16), id="float16"),
        pytest.param(_gated([2, 4, 1, 1], read_twice=True), id="product read twice"),
        pytest.param(_gated([2, 4, 1, 1], other=True), id="another summand"),
    ],
)
def test_other_sums_of_products_are_left_alone(model: onnx.ModelProto) -> None:
    """Where the gate is as large as x the rewrite saves nothing; in float16 the constant 1 would be of another type."""
    graph = ir.from_proto(model)
    assert fold_residual_gates(graph) == 0
    assert ir.to_proto(graph).graph.node == model.graph.node


@pytest.mark.parametrize(
    ("op", "x", "weight", "attributes", "axis"),
    [
        ("Conv", (1, 4, 5, 5), (OUT, 4, 3, 3), {}, 0),
        ("ConvTranspose", (1, 4, 5, 5), (4, OUT, 3, 3), {}, 1),
        ("ConvTranspose", (1, 4, 5, 5), (4, OUT, 3, 3), {"group": 2}, None),
        ("Gemm", (2, 3), (3, OUT), {}, 1),
        ("Gemm", (2, 3), (OUT, 3), {"transB": 1}, 0),
        ("MatMul", (2, 7, 5), (5, OUT), {}, 1),
        ("MatMul", (2, 7, 5), (2, 5, OUT), {}, None),
        ("MatMul", (7, 5), (5,), {}, None),
    ],
)
def test_output_channels_stand_on_the_axis_that_onnx_says(
    op: str, x: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, int], axis: int | None
) -> None:
    """Scales per channel go along this axis; a wrong one of equal size would pass every check but accuracy."""
    net = Net({"x": x})
    net.node(op, ["x", net.real("w", np.ones(weight))], "y", **attributes)
    assert output_channel_axis(ir.from_proto(net.model("y")).graph[0]) == axis


def _product(bias_shape: tuple[int, ...], dims: list[Any], *, twice: bool = False) -> onnx.ModelProto:
    net = Net({"x": dims})
    net.node("MatMul", ["x", net.real("w", net.random.standard_normal((3, 5)))], "m")
    net.node("Add", [net.real("b", net.random.standard_normal(bias_shape)), "m"], "y")
    return net.model("y", "m") if twice else net.model("y")


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_a_product_with_a_bias_becomes_gemm(shape: tuple[int, ...]) -> None:
    """onnxruntime fuses them late, with a float bias, and then dequantizes the weights at every run."""
    model = _product(shape, ["N", 3])
    folded = ir.from_proto(model)
    assert fuse_biases(folded) == 1
    made = ir.to_proto(folded)
    onnx.checker.check_model(made)
    assert [node.op_type for node in made.graph.node] == ["Gemm"]
    (feeds,) = noise(model, 1)
    np.testing.assert_allclose(run(model, feeds)["y"], run(made, feeds)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        _product((5,), ["N", 2, 3]),
        _product((1,), ["N", 3]),
        _product((4, 1), [4, 3]),
        _product((5,), ["N", 3], twice=True),
    ],
    ids=["of stacks", "by a scalar", "row by row", "of which the product is wanted"],
)
def test_other_sums_stay_sums(model: onnx.ModelProto) -> None:
    """Gemm takes matrices, and one bias for each column."""
    folded = ir.from_proto(model)
    assert fuse_biases(folded) == 0


@pytest.mark.parametrize("fold", [fold_affine, fold_residual_gates, fuse_biases])
def test_a_step_that_is_refused_stays(fold: Any) -> None:
    """Scales that a weight carries may not survive it; whoever knows them decides."""
    net = Net({"x": ["N", 3, 4, 4], "z": ["N", 3]})
    scaled = net.scalar("Mul", net.conv("x", "c", (3, 3)), "m", 2.0)
    gate = net.node("GlobalAveragePool", [scaled], "g")
    net.node("Add", [scaled, net.node("Mul", [scaled, gate], "p")], "y")
    net.node("Add", [net.node("MatMul", ["z", net.real("w", np.ones((3, 2)))], "d"), net.real("b", [1, 2])], "v")
    model = ir.from_proto(net.model("y", "v"))
    asked = []

    def refuse(node: ir.Node, step: ir.Node, factor: Any) -> bool:
        asked.append((node.op_type, step.op_type))
        return False

    assert fold(model, refuse) == 0
    assert len(asked) == 1
    assert fold(model) == 1
