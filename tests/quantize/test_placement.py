"""Which nodes run in 8 bits, and that one calibration pass serves every exclusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quantize.graphs import INT8, UINT8, Net, minmax_table, noise, quantize, tensor_range
from tests.quantize.random_graphs import EVERYTHING, Recipe, recipes
from trtd.calibrate.table import CalibrationTable
from trtd.errors import QuantizationError
from trtd.quantize.placement import Placement, choose, fused_output, observed_tensors, quantized_inputs
from trtd.quantize.qdq import insert_qdq

PLACEMENTS = st.sampled_from([UINT8, INT8])


def graph_of(model: onnx.ModelProto) -> ir.Graph:
    return ir.from_proto(model).graph


def chosen(model: onnx.ModelProto, placement: Placement = UINT8, **excluded: Any) -> list[str]:
    return [node.name or "" for node in choose(graph_of(model), placement, **excluded).nodes]


def kept_float(model: onnx.ModelProto, placement: Placement = UINT8, **excluded: Any) -> dict[str, str]:
    return choose(graph_of(model), placement, **excluded).kept_float


@settings(max_examples=80, deadline=None)
@given(recipe=recipes(), placement=PLACEMENTS, data=st.data())
def test_one_table_serves_every_exclusion(recipe: Recipe, placement: Placement, data: st.DataObject) -> None:
    """Changing the excluded nodes or operators must cost no new pass: whatever is asked for was observed."""
    model = recipe.model()
    names = [node.name for node in model.graph.node]
    exclude = data.draw(st.lists(st.sampled_from([*names, "conv_*", "*_g"]), max_size=4))
    exclude_ops = data.draw(st.lists(st.sampled_from(sorted({n.op_type for n in model.graph.node})), max_size=2))
    made = ir.from_proto(model)
    observed = observed_tensors(made.graph, placement)
    assert len(observed) == len(set(observed))
    table = CalibrationTable(
        model_digest="sha256:m", set_digest="sha256:s", samples=2, percentile=99.9,
        tensors={name: tensor_range(-1.0, 1.0) for name in observed},
    )  # fmt: skip
    try:
        insert_qdq(made, table, placement, method="minmax", exclude=exclude, exclude_ops=exclude_ops)
    except QuantizationError as error:
        if "no operator is left" not in error.message:
            raise
    onnx.checker.check_model(ir.to_proto(made))


@settings(max_examples=80, deadline=None)
@given(recipe=recipes(), placement=PLACEMENTS, exclude=st.lists(st.sampled_from(sorted(EVERYTHING)), max_size=3))
def test_the_choice_is_sound(recipe: Recipe, placement: Placement, exclude: list[str]) -> None:
    """It ends, is the same every time, names every candidate once, and puts rounding only where it gains something."""
    model = recipe.model()
    graph = graph_of(model)
    patterns = [f"{kind}_*" for kind in exclude]
    choice = choose(graph, placement, exclude=patterns)
    again = choose(graph_of(model), placement, exclude=patterns)
    assert [n.name for n in choice.nodes] == [n.name for n in again.nodes]
    assert choice.kept_float == again.kept_float
    candidates = placement.weighted | placement.joins | placement.gates | placement.views
    known = {n.name for n in graph if n.op_type in candidates}
    assert {n.name for n in choice.nodes} | set(choice.kept_float) == known
    assert not {n.name for n in choice.nodes} & set(choice.kept_float)
    _check_inputs(choice.nodes, placement)


def _check_inputs(nodes: list[ir.Node], placement: Placement) -> None:
    made_in_8_bits = {id(fused_output(node, placement)) for node in nodes}
    for node in nodes:
        from_8_bits = all(id(value) in made_in_8_bits for value in quantized_inputs(node, placement))
        output = node.outputs[0]
        readers = [use.node for use in output.uses()]
        if node.op_type in placement.weighted or from_8_bits:
            continue
        assert node.op_type in placement.views | {"Concat", "Add"}, node.name  # these may start from float, and only if
        assert not output.is_graph_output(), node.name
        assert all(any(reader is other for other in nodes) for reader in readers), node.name


def _conv_between(op: str, **attributes: Any) -> Net:
    net = Net({"x": [1, 8, 8, 8]})
    net.conv(net.node(op, [net.conv("x", "c1", (8, 8))], "between", **attributes), "c2", (8, 8))
    return net


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [2, 2]}),
        ("MaxPool", {"kernel_shape": [2, 2]}),
        ("Transpose", {"perm": [0, 1, 3, 2]}),
        ("HardSigmoid", {}),
    ],
)
def test_joins_gates_and_views_between_convolutions_run_in_8_bits(op: str, attributes: dict[str, Any]) -> None:
    """A float island between two integer convolutions costs two conversions of the whole tensor."""
    assert chosen(_conv_between(op, **attributes).model("c2")) == ["c1", "between", "c2"]


def test_a_join_that_no_8_bit_operator_reads_stays_float() -> None:
    """Rounding a residual sum that only a Sigmoid reads would lose precision for nothing."""
    net = Net({"x": [1, 8, 8, 8]})
    total = net.node("Add", [net.conv("x", "c1", (8, 8)), net.conv("x", "c2", (8, 8))], "sum")
    model = net.model(net.node("Sigmoid", [total], "y"))
    assert kept_float(model) == {"sum": "no 8-bit operator reads it"}


def test_a_join_in_front_of_scalars_and_a_convolution_runs_in_8_bits() -> None:
    """The scalars are absorbed, so what the join feeds is the convolution behind them."""
    net = Net({"x": [1, 8, 8, 8]})
    total = net.node("Add", [net.conv("x", "c1", (8, 8)), net.conv("x", "c2", (8, 8))], "sum")
    y = net.scalar("Add", net.scalar("Mul", total, "m", 0.5), "a", 1.0)
    assert "sum" in chosen(net.model(net.conv(y, "c3", (8, 8))))


def test_a_join_with_a_float_input_stays_float() -> None:
    """An integer product needs both factors as integers; rounding one just for it does not pay."""
    net = Net({"x": [1, 8, 8, 8]})
    total = net.node("Mul", [net.conv("x", "c1", (8, 8)), net.node("Sigmoid", ["x"], "s")], "product")
    assert kept_float(net.model(net.conv(total, "c2", (8, 8)))) == {"product": "an input comes from a float operator"}


def test_a_float_summand_is_rounded_where_the_sum_is_read_in_8_bits_only() -> None:
    """A float Add of a large map costs more than rounding one summand; a float reader of the sum would lose by it."""
    net = Net({"x": [1, 8, 8, 8]})
    total = net.node("Add", [net.conv("x", "c1", (8, 8)), net.node("Sigmoid", ["x"], "s")], "sum")
    read = net.conv(total, "c2", (8, 8))
    assert chosen(net.model(read)) == ["c1", "sum", "c2"]
    net.node("Sigmoid", [total], "also")
    assert kept_float(net.model(read, "also")) == {"sum": "its input is float, and a float operator reads it"}


def test_views_of_float_follow_their_readers() -> None:
    """Pooling the input before rounding or after is the same; a float reader of the result decides for before."""
    net = Net({"x": [1, 8, 8, 8]})
    pooled = net.node("MaxPool", ["x"], "p", kernel_shape=[2, 2])
    net.conv(pooled, "c1", (8, 8))
    assert chosen(net.model("c1")) == ["p", "c1"]
    net.node("Sigmoid", [pooled], "s")
    assert chosen(net.model("c1", "s")) == ["c1"]
    assert chosen(net.model("c1", "p")) == ["c1"]


def test_scales_of_a_resize_are_no_data() -> None:
    """A Resize computes its size from them: rounded to 8 bits they are other sizes. So are sizes and biases."""
    net = Net({"x": [1, 8, 8, 8], "scales": [2, 2]})
    factors = net.node("Reshape", ["scales", net.const("four", np.array([4]))], "flat")
    large = net.node("Resize", [net.conv("x", "c1", (8, 8)), "", factors], "large", mode="nearest")
    model = net.model(net.conv(large, "c2", (8, 8)))
    assert chosen(model) == ["c1", "large", "c2"]
    data = [feeds | {"scales": np.array([[1, 1], [2, 3]], np.float32)} for feeds in noise(model, 2)]
    assert quantize(model, data=data).found["c2"].shape == (1, 8, 16, 24)


def _mul(left: list[Any], right: list[Any]) -> onnx.ModelProto:
    net = Net({"x": left, "z": right})
    product = net.node("Mul", [net.conv("x", "c1", (8, 8)), net.conv("z", "c2", (8, 8))], "product")
    return net.model(net.conv(product, "c3", (8, 8)))


@pytest.mark.parametrize(
    ("left", "right", "in_8_bits"),
    [
        ([1, 8, 8, 8], [1, 8, 8, 8], True),
        (["n", 8, "h", "w"], ["n", 8, "h", "w"], True),
        (["n", 8, None, None], ["n", 8, None, None], True),
        ([1, 8, 8, 8], [1, 8, 1, 1], False),
        (["n", 8, "h", "w"], ["n", 8, 1, 1], False),
        ([None, 8, None, 8], [None, 8, None, 1], False),
    ],
)
def test_products_that_broadcast_stay_float(left: list[Any], right: list[Any], in_8_bits: bool) -> None:
    """onnxruntime's QLinearMul is slower than float where one side is stretched; open dimensions must not hide that."""
    reason = kept_float(_mul(left, right)).get("product", "")
    assert ("broadcasting" in reason) is not in_8_bits


def _weighted(op: str, x: list[int], *constants: Any, **attributes: Any) -> onnx.ModelProto:
    net = Net({"x": x})
    inputs = [net.real(f"k{i}", array) for i, array in enumerate(constants)]
    return net.model(net.node(op, ["x", *inputs], "y", **attributes))


NAN = np.full((4, 4, 1, 1), np.nan)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_weighted("Conv", [1, 3, 8, 8], np.ones((8, 3, 3, 3))), "over 3 channels"),
        (_weighted("Conv", [1, 4, 8, 8], NAN), "NaN or infinity"),
        (_weighted("Conv", [1, 4, 8, 8], -np.inf * np.ones((4, 4, 1, 1))), "NaN or infinity"),
        (_weighted("MatMul", [2, 3, 4], np.ones((2, 4, 5))), "no single output-channel axis"),
        (_weighted("MatMul", [2, 4], np.ones(4)), "no single output-channel axis"),
        (_weighted("Gemm", [2, 4], np.ones((4, 5)), np.ones(5), alpha=0.5), "alpha"),
        (_weighted("Gemm", [2, 4], np.ones((4, 5)), np.ones(5), beta=2.0), "beta"),
        (_weighted("Gemm", [4, 2], np.ones((4, 5)), np.ones(5), transA=1), "transA"),
        (_weighted("Gemm", [2, 4], np.ones((4, 5)), np.ones((2, 5))), "row to row"),
        (_weighted("Gemm", [5, 4], np.ones((4, 5)), np.ones((5, 1))), "row to row"),
    ],
)
def test_what_has_no_8_bit_kernel_says_why(model: onnx.ModelProto, reason: str) -> None:
    """A report that only says "kept in float" sends its reader to the source code."""
    assert reason in kept_float(model)["y"]


def test_depthwise_convolutions_run_in_8_bits_whatever_their_width() -> None:
    """The rule against narrow convolutions is about dense ones, such as the first over an RGB image."""
    net = Net({"x": [1, 3, 8, 8]})
    assert chosen(net.model(net.conv("x", "y", (3, 3), groups=3))) == ["y"]


def test_computed_weights_and_biases_stay_float() -> None:
    """Their scales would have to be found at run time."""
    net = Net({"x": [1, 4, 8, 8], "w": [4, 4, 1, 1], "b": [4]})
    net.node("Conv", ["x", "w"], "weight")
    net.node("Conv", ["x", net.real("k", np.ones((4, 4, 1, 1))), "b"], "bias")
    reasons = kept_float(net.model("weight", "bias"))
    assert reasons == {"weight": "its weight is not a float32 constant", "bias": "its bias is computed at run time"}


def test_exclusions_by_name_glob_and_operator() -> None:
    """All three forms that a spec offers, and the reason that the report shows."""
    net = Net({"x": [1, 8, 8, 8]})
    value = "x"
    for name in ("head/one", "head/two", "tail/one"):
        value = net.conv(value, name, (8, 8))
    model = net.model(net.node("GlobalAveragePool", [value], "pool"))
    assert chosen(model, exclude=["head/two"]) == ["head/one", "tail/one"]
    assert chosen(model, exclude=["head/*"]) == ["tail/one"]
    assert chosen(model, exclude=["*/one", "nowhere"]) == ["head/two"]
    assert kept_float(model, exclude=["head/*"])["head/two"] == "excluded by 'head/*'"
    assert kept_float(model, exclude_ops=["Conv"])["tail/one"] == "excluded by operator type Conv"
    assert chosen(model, exclude_ops=["Conv"]) == []


@pytest.mark.parametrize(
    ("low", "high", "fused"), [(0.0, 6.0, True), (0.0, None, False), (None, 6.0, False), (-1.0, 1.0, False)]
)
def test_only_clips_that_rounding_implies_are_fused(low: float | None, high: float | None, fused: bool) -> None:
    """Between 0 and the largest value seen, rounding clips by itself. Other clips keep the Conv from being integer."""
    net = Net({"x": [1, 8, 8, 8]})
    bounds = [net.real(name, bound) if bound is not None else "" for name, bound in (("low", low), ("high", high))]
    clipped = net.node("Clip", [net.conv("x", "c1", (8, 8)), *bounds], "clip")
    graph = graph_of(net.model(net.conv(clipped, "c2", (8, 8))))
    assert fused_output(graph.node("c1"), UINT8).name == ("clip" if fused else "c1")
    assert fused_output(graph.node("c1"), INT8).name == "c1"


def test_an_activation_that_is_not_alone_is_not_fused() -> None:
    """Who else reads the convolution needs what it was before the ReLU."""
    net = Net({"x": [1, 8, 8, 8]})
    net.node("Relu", [net.conv("x", "c1", (8, 8))], "r")
    graph = graph_of(net.model("r", "c1"))
    assert fused_output(graph.node("c1"), UINT8).name == "c1"


def test_tables_hold_nothing_needless() -> None:
    """Each tensor that is observed costs time on every calibration item."""
    net = Net({"x": [1, 8, 8, 8]})
    value = net.node("Relu", [net.conv("x", "c1", (8, 8))], "r1")
    value = net.node("MaxPool", [value], "p", kernel_shape=[2, 2])
    model = net.model(net.node("Sigmoid", [net.conv(value, "c2", (8, 8))], "s"))
    assert observed_tensors(graph_of(model), UINT8) == ["x", "r1", "c2"]
    assert set(observed_tensors(graph_of(model), UINT8)) < set(minmax_table(model, noise(model, 1)).tensors)


@pytest.mark.parametrize(("mode", "in_8_bits"), [("nearest", True), ("linear", False), ("cubic", False)])
def test_only_copying_resizes_are_views(mode: str, in_8_bits: bool) -> None:
    """Interpolated values are new values: rounding them to the input's steps once more would lose precision."""
    net = Net({"x": [1, 8, 8, 8]})
    scales = net.real("k", [1, 1, 2, 2])
    large = net.node("Resize", [net.conv("x", "c1", (8, 8)), "", scales], "large", mode=mode)
    model = net.model(net.conv(large, "c2", (8, 8)))
    assert ("large" in chosen(model)) is in_8_bits
    assert ("large" in observed_tensors(graph_of(model), UINT8)) is not in_8_bits
