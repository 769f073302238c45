"""A Q/DQ pair that stands in for ``y = a * h + b`` must give what quantizing ``y`` itself gives, or not stand in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.quantize.graphs import INT8, Net, Outcome, noise, quantize, run, sqnr_db, tensor_range
from trtd.quantize.affine import GATE, chain_behind, gate_scale
from trtd.quantize.scales import Affine, activation_scale


def chain(steps: list[tuple[str, float]], reader: str = "Conv") -> tuple[ir.Value, list[ir.Node], str]:
    """x through scalar steps into one reader: the value it reads, the reader, and the name of x."""
    net = Net({"x": [1, 4, 5, 5]})
    value = "x"
    for i, (op, number) in enumerate(steps):
        value = net.scalar(op, value, f"s{i}", np.float64(number))
    if reader == "Conv":
        net.conv(value, "y", (4, 4))
    else:
        net.node("MatMul", [value, net.real("w", np.ones((5, 3)))], "y")
    graph = ir.from_proto(net.model("y")).graph
    node = graph.node("y")
    read = node.inputs[0]
    assert read is not None
    return read, [node], "x"


def quantized(x: Any, affine: Affine) -> Any:
    scale, zero_point = (array.astype(np.float64) for array in affine.arrays())
    return np.clip(np.rint(x / scale) + zero_point, *affine.limits)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("Mul"), st.floats(1e-3, 1e3)),
        st.tuples(st.just("Add"), st.floats(-50, 50)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, low=st.floats(-20, 0), width=st.floats(1e-3, 50), shift=st.floats(-1, 1))
def test_absorbed_chains_round_like_explicit_ones(
    steps: list[tuple[str, float]], low: float, width: float, shift: float
) -> None:
    """For every value in the calibrated range the error is that of 8-bit rounding, whatever a, b and the range are."""
    factor, offset = 1.0, 0.0
    for op, number in ((op, float(np.float32(number))) for op, number in steps):
        factor, offset = (factor * number, offset * number) if op == "Mul" else (factor, offset + number)
    edges = min(low, offset * shift), max(low + width, offset * shift, 1e-3)
    scale = activation_scale(tensor_range(min(edges[0], 0.0), edges[1]), "minmax", "uint8")
    value, readers, name = chain(steps)
    found = chain_behind(value, scale, readers)
    if found is None:  # only where b, the y of h = 0, is no value that the 8 bits hold
        assert not edges[0] + scale.scale <= offset <= edges[1] - scale.scale
        return
    assert found.source.name == name
    y = np.linspace(edges[0], edges[1], 1001)
    h = (y - offset) / factor
    read_back = scale.scale * (quantized(h, found.quantize) - scale.zero_point) + found.offset
    inside = (y > edges[0] + scale.scale) & (y < edges[1] - scale.scale)
    slack = 1e-4 * scale.scale + 1e-6 * np.abs(y).max() + 1e-5 * abs(offset)  # the scale itself is float32
    assert np.abs(read_back - y)[inside].max(initial=0) <= scale.scale / 2 + slack
    assert np.abs(read_back - y).max() <= 2 * scale.scale + slack


SCALE = Affine(0.05, 100, "uint8")


@pytest.mark.parametrize(
    "steps",
    [
        [("Mul", -1.0)],  # would turn the range around
        [("Mul", 0.0)],
        [("Add", 100.0)],  # no zero point reaches so far
        [("Add", -100.0)],
        [("Mul", 1e-37)],  # a scale that float32 cannot hold
        [("Mul", 1e38)],
    ],
)
def test_what_8_bits_cannot_express_is_not_absorbed(steps: list[tuple[str, float]]) -> None:
    """A scale of infinity or a wrapped zero point would load, run and be wrong."""
    value, readers, _ = chain(steps)
    assert chain_behind(value, SCALE, readers) is None


def test_a_matrix_product_has_no_bias_for_the_rest() -> None:
    """What rounding the offset leaves over has nowhere to go behind MatMul; a whole number of steps leaves nothing."""
    value, readers, _ = chain([("Add", 0.26)], "MatMul")
    assert chain_behind(value, Affine(0.5, 0, "uint8"), readers) is None
    value, readers, _ = chain([("Add", 1.5)], "MatMul")
    found = chain_behind(value, Affine(0.5, 0, "uint8"), readers)
    assert found is not None
    assert (found.quantize, found.offset) == (Affine(0.5, 3, "uint8"), 0)


def test_symmetric_activations_keep_their_chains() -> None:
    """Symmetric int8 has no zero point that could take the offset."""
    value, readers, _ = chain([("Mul", 2.0)])
    assert chain_behind(value, Affine(0.1, 0, "int8"), readers) is None


def through(steps: dict[str, float], *, explicit: bool, kernel: int = 3, spread: float = 1.0) -> Outcome:
    """conv -> scalar steps -> conv, quantized; ``explicit`` hides the scalars from absorption by making them inputs."""
    net = Net({"x": [1, 4, 9, 9]})
    value = net.hard_swish(net.conv("x", "c1", (4, 8)), "h")
    constants = {}
    for op, number in steps.items():
        constants[f"{op}_c"] = np.full(1, number, np.float32)
        if explicit:
            net.inputs[f"{op}_c"] = [1]
        else:
            net.real(f"{op}_c", constants[f"{op}_c"])
        value = net.node(op, [value, f"{op}_c"], op)
    model = net.model(net.conv(value, "c2", (8, 8), kernel=kernel))
    data = [{"x": feeds["x"]} | (constants if explicit else {}) for feeds in noise(model, 3, spread=spread)]
    return quantize(model, data=data)


@settings(max_examples=25, deadline=None, derandomize=True)  # noise is a matter of chance
@given(
    a=st.floats(0.01, 100),
    b=st.sampled_from([-40.0, -1.0, -0.3, 0.0, 0.2, 1.0, 7.0, 300.0]),
    kernel=st.sampled_from([1, 3]),
    order=st.sampled_from([("Mul", "Add"), ("Add", "Mul"), ("Mul",), ("Add",)]),
    spread=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_engines_with_absorbed_chains_are_as_good(
    a: float, b: float, kernel: int, order: tuple[str, ...], spread: float
) -> None:
    """Run in onnxruntime, absorption may cost nothing against explicit quantization of the same tensor.

    The margin is for chance, since the two round at different points, and for padding, where the border misses up to
    half a step of correction.
    """
    steps = {op: {"Mul": a, "Add": b}[op] for op in order}
    absorbed = through(steps, explicit=False, kernel=kernel, spread=spread)
    explicit = through(steps, explicit=True, kernel=kernel, spread=spread)
    assert absorbed.sqnr_db() >= explicit.sqnr_db() - 3.5


@pytest.mark.parametrize("b", [-0.31, 0.0123, 0.29, 1.1])
def test_what_rounding_the_offset_leaves_goes_into_the_bias(b: float) -> None:
    """Half a step on every input, summed over all weights of a channel, would be a visible shift."""
    outcome = through({"Mul": 0.8, "Add": b}, explicit=False)
    found = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in outcome.model.graph.initializer
    }
    moved = found["Add.q.zero_point"] - found["Add.dq.zero_point"]
    rest = np.float32(b) - moved * found["Add.dq.scale"]
    assert abs(rest) <= found["Add.dq.scale"] / 2 * 1.001
    weight = found["c2.weight.quantized"] * found["c2.weight.scale"].reshape(-1, 1, 1, 1)
    written = found["c2.bias.quantized"] * found["c2.bias.scale"]
    original = np.random.default_rng(0)  # the weights and biases of through() are drawn in this order
    for shape in ((8, 4, 3, 3), (8,), (8, 8, 3, 3)):
        original.standard_normal(shape)
    before = (original.standard_normal(8) * 0.3).astype(np.float32)
    assert written == pytest.approx(before + rest * weight.sum(axis=(1, 2, 3)), abs=0.03 * float(found["Add.dq.scale"]))


def scalars_left(outcome: Outcome) -> int:
    return sum(node.op_type in ("Mul", "Add") for node in outcome.model.graph.node)


@pytest.mark.parametrize("steps", [{"Mul": 0.7}, {"Add": -0.2}, {"Mul": 1.7, "Add": 0.4}, {"Add": 3.0, "Mul": 0.1}])
def test_absorbed_chains_cost_no_operator(steps: dict[str, float]) -> None:
    """That is what absorption is for: the scalars are gone, and h's own multiplication stays integer."""
    outcome = through(steps, explicit=False)
    assert scalars_left(outcome) == 1  # the product of the hard swish
    assert outcome.kernels["QLinearMul"] == 1
    assert outcome.kernels["Mul"] + outcome.kernels["Add"] == 0
    assert outcome.sqnr_db() > 28


def _two_readers(net: Net, y: str) -> list[str]:
    return [net.conv(y, "one", (8, 4)), net.conv(y, "two", (8, 4), kernel=1)]


def _source_read_elsewhere(net: Net, y: str) -> list[str]:
    return [net.conv(y, "one", (8, 4)), net.node("Exp", ["h"], "e")]


def _float_reader(net: Net, y: str) -> list[str]:
    return [net.conv(y, "one", (8, 4)), net.node("Exp", [y], "e")]


def _middle_read(net: Net, y: str) -> list[str]:
    return [net.conv(y, "one", (8, 4)), net.node("Exp", ["m"], "e")]


def _returned(net: Net, y: str) -> list[str]:
    return [net.conv(y, "one", (8, 4)), y]


def _joined(net: Net, y: str) -> list[str]:
    return [net.conv(net.node("Concat", [y, net.conv("x", "z", (4, 8))], "cat", axis=1), "one", (16, 4))]


@pytest.mark.parametrize(
    ("readers", "left"),
    [
        (_two_readers, 0),  # one pair serves both, each takes the rest into its own bias
        (_source_read_elsewhere, 0),
        (_float_reader, 2),  # who reads y in float needs it computed
        (_middle_read, 1),  # m is needed, so only what is behind it is absorbed
        (_returned, 2),
        (_joined, 2),
    ],
)
def test_chains_go_only_where_nobody_needs_them(readers: Any, left: int) -> None:
    """Every reader of every step must still see its value."""
    net = Net({"x": [1, 4, 9, 9]})
    net.node("Tanh", [net.conv("x", "c1", (4, 8))], "h")
    y = net.scalar("Add", net.scalar("Mul", "h", "m", 0.7), "y", [-0.3])
    outcome = quantize(net.model(*readers(net, y)))
    assert scalars_left(outcome) == left
    for name in outcome.reference:
        assert outcome.sqnr_db(name) > 28, name


def test_a_scalar_that_adds_a_dimension_stays() -> None:
    """(4, 16) times a constant of shape (1, 1, 1) has three dimensions; without the Mul the output would have two."""
    net = Net({"x": [4, 16]})
    y = net.scalar("Mul", "x", "m", np.full((1, 1, 1), 0.5))
    model = net.model(net.node("MatMul", [y, net.real("w", net.random.standard_normal((16, 8)))], "y"))
    outcome = quantize(model)  # which compares shapes
    assert outcome.found["y"].shape == (1, 4, 8)
    assert outcome.sqnr_db() > 28


def test_int8_chains_stay_and_work() -> None:
    """With symmetric activations the scalars run in float."""
    net = Net({"x": [1, 4, 9, 9]})
    y = net.scalar("Add", net.scalar("Mul", net.conv("x", "c1", (4, 8)), "m", 0.7), "a", 0.3)
    outcome = quantize(net.model(net.conv(y, "c2", (8, 8))), INT8)
    assert scalars_left(outcome) == 2
    assert outcome.sqnr_db() > 28


def gate(alpha: float, beta: float) -> onnx.ModelProto:
    net = Net({"x": [1, 4, 9, 9]})
    return net.model(net.node("HardSigmoid", ["x"], "y", alpha=alpha, beta=beta))


@settings(max_examples=60, deadline=None)
@given(alpha=st.floats(0.01, 10), beta=st.floats(0, 1))
def test_gates_round_to_the_nearest_steps(alpha: float, beta: float) -> None:
    """Slope, offset and clipping of HardSigmoid, all in one rounding: at most one step of 1/255 off anywhere."""
    model = gate(alpha, beta)
    affine = gate_scale(ir.from_proto(model).graph[0])
    assert affine is not None
    x = np.linspace(-2 / alpha, 2 / alpha, 4 * 81).astype(np.float32).reshape(1, 4, 9, 9)
    read_back = GATE.scale * (quantized(x, affine) - GATE.zero_point)
    assert np.abs(read_back - run(model, {"x": x})["y"]).max() <= 1.01 / 255


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.5), (-1.0, 0.5), (1.0, 1.5), (1.0, -0.5), (1e-38, 0.5)])
def test_gates_that_do_not_fit_stay_float(alpha: float, beta: float) -> None:
    """An offset outside 0..1 would be a zero point outside uint8, and a slope of zero an infinite scale."""
    assert gate_scale(ir.from_proto(gate(alpha, beta)).graph[0]) is None
    net = Net({"x": [1, 4, 9, 9]})
    value = net.node("HardSigmoid", [net.conv("x", "c1", (4, 8))], "g", alpha=alpha, beta=beta)
    outcome = quantize(net.model(net.conv(value, "c2", (8, 4))))
    assert "g" not in outcome.written.nodes
    assert "slope" in outcome.written.kept_float["g"]
    assert sqnr_db(outcome.reference["c2"], outcome.found["c2"]) > 25
