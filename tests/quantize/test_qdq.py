"""Quantized graphs load, run in integer kernels, and are as precise as 8 bits allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper

from tests.quantize.graphs import (
    FLOAT,
    UINT8,
    UINT8_WEIGHTS_7_BITS,
    UINT8_WEIGHTS_8_BITS,
    Net,
    minmax_table,
    noise,
    quantize,
    run,
    sqnr_db,
)
from tests.quantize.random_graphs import WELL_BEHAVED, Recipe, recipes
from trtd.errors import QuantizationError
from trtd.quantize.placement import Placement
from trtd.quantize.qdq import insert_qdq


def constants(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def image() -> Net:
    return Net({"x": [1, 8, 12, 12]})


@settings(max_examples=40, deadline=None, derandomize=True)  # noise is a matter of chance
@given(recipe=recipes(WELL_BEHAVED, most=4))
def test_random_networks_keep_25_db(recipe: Recipe) -> None:
    """Whatever is stacked on whatever: 8 bits with minmax leave little noise, on every output."""
    outcome = quantize(recipe.model())
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 25, name


@settings(max_examples=40, deadline=None, derandomize=True)  # noise is a matter of chance
@given(recipe=recipes())
def test_random_graphs_of_every_operator_run(recipe: Recipe) -> None:
    """Gates, scalars, products and float islands in any arrangement load, run, and stay close."""
    outcome = quantize(recipe.model())
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 12, name


def test_a_clip_below_zero_is_kept() -> None:
    """Rounding to the calibrated range clips a little outside [-1, 1], so the Clip must still run."""
    net = image()
    bounds = [net.real("low", -1.0), net.real("high", 1.0)]
    clipped = net.node("Clip", [net.conv("x", "c1", (8, 16)), *bounds], "clip")
    model = net.model(net.conv(clipped, "c2", (16, 8)), "clip")
    outcome = quantize(model, data=noise(model, spread=3.0))
    assert outcome.kernels["Clip"] == 1
    assert outcome.kernels["QLinearConv"] == 2
    assert np.abs(outcome.found["clip"]).max() <= 1
    assert outcome.sqnr_db() > 25


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (10,), (1, 10), (1,), (), (1, 1)])
def test_gemm_takes_every_form_of_bias(transposed: int, bias: tuple[int, ...] | None) -> None:
    """ONNX lets C be anything that broadcasts; a per-channel scale needs it one number a column."""
    net = Net({"x": [4, 16]})
    weight = net.random.standard_normal((16, 10)) * net.random.uniform(0.1, 3, 10)
    inputs = ["x", net.real("w", weight.T if transposed else weight)]
    if bias is not None:
        inputs.append(net.real("b", net.random.standard_normal(bias)))
    outcome = quantize(net.model(net.node("Gemm", inputs, "y", transB=transposed)))
    assert outcome.kernels["QGemm"] == 1
    assert outcome.sqnr_db() > 35


@pytest.mark.parametrize("shape", [[16], [4, 16], [2, 4, 16], [1, 2, 4, 16]])
def test_matrix_products_of_every_rank(shape: list[int]) -> None:
    """Transformers multiply three-dimensional activations by two-dimensional weights."""
    net = Net({"x": shape})
    model = net.model(net.node("MatMul", ["x", net.real("w", net.random.standard_normal((16, 10)))], "y"))
    outcome = quantize(model)
    assert outcome.kernels["MatMulIntegerToFloat"] == 1
    assert outcome.sqnr_db() > 33


def test_outputs_keep_their_names_wherever_they_come_from() -> None:
    """Callers find outputs by name: a convolution's own, one inside the graph, a gate's, a pooled one."""
    net = image()
    inner = net.node("Relu", [net.conv("x", "c1", (8, 16))], "inner")
    gate = net.node("HardSigmoid", [net.conv(inner, "c2", (16, 16))], "gate")
    pooled = net.node("MaxPool", [inner], "pooled", kernel_shape=[2, 2])
    model = net.model(net.conv(gate, "last", (16, 8)), "inner", "gate", "pooled", net.conv(pooled, "c3", (16, 8)))
    outcome = quantize(model)  # which compares the lists of names
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 28, name
    known = {o for node in outcome.model.graph.node for o in node.output}
    assert set(outcome.written.tensors.values()) <= known
    assert outcome.written.tensors["inner"] == "inner"
    assert outcome.written.tensors["gate"] == "gate"


def test_float_readers_of_a_float_tensor_read_it_unrounded() -> None:
    """What an integer convolution needs rounded, its float neighbour must still see exactly."""
    net = image()
    float_value = net.node("Sigmoid", ["x"], "s")
    model = net.model(net.conv(float_value, "c1", (8, 8)), net.node("Exp", [float_value], "e"))
    outcome = quantize(model)
    assert np.array_equal(outcome.reference["e"], outcome.found["e"])
    assert outcome.sqnr_db("c1") > 28


def test_float_readers_of_an_integer_convolution() -> None:
    """They read what the convolution gives, so that it stays one integer kernel."""
    net = image()
    inner = net.conv("x", "c1", (8, 8))
    outcome = quantize(net.model(net.conv(inner, "c2", (8, 8)), net.node("Exp", [inner], "e")))
    assert outcome.kernels["QLinearConv"] == 2
    assert outcome.sqnr_db("e") > 28


def test_an_input_read_by_two_convolutions_is_rounded_once() -> None:
    """Two equal conversions of the largest tensor would cost as much as a layer."""
    net = image()
    outcome = quantize(net.model(net.conv("x", "c1", (8, 16)), net.conv("x", "c2", (8, 16))))
    assert outcome.kernels["QuantizeLinear"] == 1
    assert sum(node.op_type == "QuantizeLinear" for node in outcome.model.graph.node) == 3  # x, and both outputs


def test_a_branch_may_read_an_integer_convolution() -> None:
    """The body of an If reads values of the outer graph without being an input of the node."""
    net = Net({"x": [1, 8, 12, 12]})
    net.conv("x", "c1", (8, 8))
    bodies = {
        name: helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])
        for name, node in {
            "then": helper.make_node("Relu", ["c1"], ["then"]),
            "else": helper.make_node("Neg", ["x"], ["else"]),
        }.items()
    }
    condition = net.const("yes", np.array(True))
    chosen = net.node("If", [condition], "if", then_branch=bodies["then"], else_branch=bodies["else"])
    model = net.model(net.conv(chosen, "c2", (8, 8)))
    table = minmax_table(model, noise(model))
    outcome = quantize(model, table=table)
    assert outcome.written.nodes == ["c1", "c2"]
    assert outcome.sqnr_db() > 28


def test_excluded_nodes_are_bit_for_bit_float() -> None:
    """Exclusion is the way out when 8 bits lose too much: what is excluded may not be touched."""
    net = image()
    model = net.model(net.conv("x", "free", (8, 8)), net.conv("x", "kept", (8, 8)))
    by_name, by_glob = quantize(model, exclude=["kept"]), quantize(model, exclude=["k*t"])
    for outcome in (by_name, by_glob):
        assert outcome.written.nodes == ["free"]
        assert np.array_equal(outcome.reference["kept"], outcome.found["kept"])
        assert outcome.sqnr_db("free") > 28


@pytest.mark.parametrize("op", ["HardSigmoid", "Mul", "MaxPool", "Add", "GlobalAveragePool"])
def test_excluding_an_operator_type_works_without_a_new_pass(op: str) -> None:
    """The table was made without knowing of the exclusion."""
    net = image()
    one = net.hard_swish(net.conv("x", "c1", (8, 16)), "h")
    gate = net.node("HardSigmoid", [net.conv(one, "c2", (16, 16))], "g")
    total = net.node("Add", [net.conv(gate, "c3", (16, 16)), one], "sum")
    pooled = net.node("MaxPool", [net.node("MaxPool", [total], "p1", kernel_shape=[2, 2])], "p2", kernel_shape=[2, 2])
    model = net.model(net.conv(net.node("GlobalAveragePool", [pooled], "p3"), "c4", (16, 8), kernel=1))
    outcome = quantize(model, exclude_ops=[op])
    assert sum(node.op_type == op for node in outcome.model.graph.node) > 0
    assert not [n for n in model.graph.node if n.op_type == op and n.name in outcome.written.nodes]
    assert outcome.sqnr_db() > 25


def test_gates_feed_views_and_convolutions() -> None:
    """A gate's range is known without calibration, also where a view of it is what a convolution reads."""
    net = image()
    gate = net.node("HardSigmoid", [net.conv("x", "c1", (8, 16))], "g")
    pooled = net.node("MaxPool", [gate], "p", kernel_shape=[2, 2])
    outcome = quantize(net.model(net.conv(pooled, "c2", (16, 8)), net.conv(gate, "c3", (16, 8))))
    assert outcome.kernels["QLinearConv"] == 3
    assert outcome.kernels["HardSigmoid"] == 0
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 30, name


@pytest.mark.parametrize(("placement", "limit"), [(UINT8_WEIGHTS_8_BITS, 127), (UINT8_WEIGHTS_7_BITS, 63)])
def test_weights_have_one_symmetric_scale_per_channel(placement: Placement, limit: int) -> None:
    """One scale for all channels loses the small ones; an asymmetric one is slower; a full 8th bit saturates AVX2."""
    net = image()
    weight = net.random.standard_normal((4, 8, 3, 3)) * np.array([1e-4, 1, 100, 1e4]).reshape(4, 1, 1, 1)
    model = net.model(net.conv("x", "y", (8, 4), weight=weight))
    outcome = quantize(model, placement)
    found = constants(outcome.model)
    stored, scales = found["y.weight.quantized"], found["y.weight.scale"]
    assert stored.dtype == np.int8
    assert scales.shape == (4,)
    assert not found["y.weight.zero_point"].any()
    assert np.abs(stored).max(axis=(1, 2, 3)).tolist() == [limit] * 4
    for channel in range(4):
        assert sqnr_db(weight[channel], stored[channel] * scales[channel]) > 30


def test_a_dead_channel_stays_exactly_zero() -> None:
    """Pruned channels have all-zero weights; a scale of 0 would turn them into NaN."""
    net = image()
    weight = net.random.standard_normal((4, 8, 3, 3))
    weight[2] = 0
    outcome = quantize(net.model(net.conv("x", "y", (8, 4), weight=weight, bias=False)))
    assert not outcome.found["y"][:, 2].any()
    assert outcome.sqnr_db() > 30


@pytest.mark.parametrize("weight", [1e-12, 1e-9, 1e-8, 3e-8, 1e-7, 1e-6, 1e-5, 1e-3])
def test_a_large_bias_over_tiny_weights_does_not_overflow(weight: float) -> None:
    """The bias is int32 in steps of input x weight scale, and so is the sum: past 2**31 a 1.0 comes out as -1.0."""
    net = Net({"x": [1, 64, 6, 6]})
    inputs = ["x", net.real("w", np.full((4, 64, 3, 3), weight)), net.real("b", np.array([1, -1, 0.5, 0]))]
    model = net.model(net.node("Conv", inputs, "y", pads=[1, 1, 1, 1]))
    data = [{"x": np.abs(feeds["x"])} for feeds in noise(model)]
    assert quantize(model, data=data).sqnr_db() > 35


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e6])
@pytest.mark.parametrize("factor", [1e-38, 1e-30, 1e-15, 1e15, 1e30])
def test_weights_and_inputs_of_any_size_work(factor: float, spread: float) -> None:
    """Scales stay finite, normal float32 numbers, one by one and multiplied with each other."""
    net = image()
    weight = net.random.standard_normal((4, 8, 3, 3))
    weight[1] *= factor
    bias = net.real("b", np.array([0.3, 0.0, 1e-3, -2.0]))
    model = net.model(net.node("Conv", ["x", net.real("w", weight), bias], "y", pads=[1, 1, 1, 1]))
    outcome = quantize(model, data=noise(model, spread=spread))
    assert outcome.sqnr_db() > 30
    for name, array in constants(outcome.model).items():
        if name.endswith("scale"):
            assert (array >= np.finfo(np.float32).tiny).all(), name
            assert np.isfinite(array).all(), name


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_models_of_other_float_types_are_refused_by_name(dtype: Any) -> None:
    """A half-precision export has nothing that could be quantized; the message must say so, not just "nothing left"."""
    net = Net({"x": [1, 8, 6, 6]}, dtype=dtype)
    model = net.model(net.conv("x", "y", (8, 8)))
    with pytest.raises(QuantizationError, match="left to run in INT8; 1 of 1: its inputs are not float32"):
        insert_qdq(ir.from_proto(model), minmax_table(model, []), UINT8, method="minmax")


def test_old_opsets_are_refused_by_name() -> None:
    """Below opset 13 DequantizeLinear has no axis; onnxruntime would refuse the engine with a riddle."""
    net = Net({"x": [1, 8, 6, 6]}, opset=11)
    model = net.model(net.conv("x", "y", (8, 8)))
    with pytest.raises(QuantizationError, match="opset 11, and per-channel scales need 13"):
        quantize(model)


@pytest.mark.parametrize("opset", [13, 17, 21, 22])
def test_every_opset_with_per_channel_scales_works(opset: int) -> None:
    """Newer opsets give QuantizeLinear more types and attributes; what is written must mean the same in all."""
    net = Net({"x": [1, 8, 6, 6]}, opset=opset)
    outcome = quantize(net.model(net.conv(net.node("Relu", [net.conv("x", "c1", (8, 8))], "r"), "y", (8, 8))))
    assert outcome.kernels["QLinearConv"] == 2
    assert outcome.sqnr_db() > 28


def test_excluding_everything_is_an_error() -> None:
    """An "INT8" engine without one integer operator would pass every fidelity gate."""
    net = image()
    model = net.model(net.conv("x", "y", (8, 8)))
    with pytest.raises(QuantizationError, match="1 of 1: excluded by operator type Conv"):
        quantize(model, exclude_ops=["Conv"])


def test_a_table_of_another_graph_is_an_error() -> None:
    """A tensor without a range must not get a made-up one."""
    net = image()
    model = net.model(net.conv("x", "y", (8, 8)))
    with pytest.raises(QuantizationError, match="no range for tensor 'y'"):
        quantize(model, table=minmax_table(model, noise(model), ["x"]))


def test_dynamic_shapes_survive() -> None:
    """An engine that was calibrated at one size must run at others if the model does."""
    net = Net({"x": ["n", 8, "h", "w"]})
    model = net.model(net.conv(net.node("Relu", [net.conv("x", "c1", (8, 16))], "r"), "y", (16, 8)))
    outcome = quantize(model)
    feeds = {"x": np.random.default_rng(3).standard_normal((3, 8, 20, 9)).astype(np.float32)}
    assert sqnr_db(run(model, feeds)["y"], run(outcome.model, feeds)["y"]) > 28


def test_one_weight_of_two_convolutions() -> None:
    """Shared heads: each user gets scales that fit its own input and bias."""
    net = image()
    first = net.conv("x", "one", (8, 8))
    second = net.node("Conv", [first, "one_w", "one_b"], "two", pads=[1, 1, 1, 1])
    outcome = quantize(net.model(second, first))
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 28, name
