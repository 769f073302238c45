"""The PIR normalization rules, on programs built by hand: no Paddle here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trtd.errors import ConversionError
from trtd.model.pir import RULES, normalize
from trtd.model.pir_edit import array, boolean, f32, i32, i32s, i64s, tensor_type
from trtd.model.pir_facts import attribute, block_of

Op = dict[str, Any]


class Sketch:
    """Writes the JSON of a PIR program, value by value."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values = 0

    def value(self, dims: Sequence[int], dtype: str = "float32") -> Op:
        self.values += 1
        return {"%": self.values, "TT": tensor_type(dtype, dims)}

    def op(self, name: str, inputs: Sequence[int], dims: Sequence[int], *attributes: Op, dtype: str = "float32") -> int:
        out = self.value(dims, dtype)
        inputs_ = [{"%": value} for value in inputs]
        self.ops.append({"#": f"1.{name}", "A": list(attributes), "I": inputs_, "O": [out], "OA": []})
        return int(out["%"])

    def input(self, *dims: int) -> int:
        return self.op("data", [], dims, text("name", f"x{self.values}"))

    def integers(self, *values: int) -> int:
        return self.op("full_int_array", [], [len(values)], i64s("value", values), dtype="int64")

    def program(self) -> dict[str, Any]:
        block = {"#": "block_0", "args": [], "ops": self.ops}
        regions = {"regions": [{"#": "region_0", "blocks": [block]}]}
        return {"base_code": {"magic": "pir", "trainable": True, "version": 4}, "program": regions}


def text(name: str, value: str) -> Op:
    return {"AT": {"#": "0.a_str", "D": value}, "N": name}


def f64(name: str, value: float) -> Op:
    return {"AT": {"#": "0.a_f64", "D": value}, "N": name}


NCHW, NHWC = text("data_format", "NCHW"), text("data_format", "NHWC")
KEEP, DROP = boolean("keepdim", True), boolean("keepdim", False)


def _unary(name: str, dims: Sequence[int], out: Sequence[int], *attributes: Op) -> Callable[[Sketch], int]:
    return lambda s: s.op(name, [s.input(*dims)], out, *attributes)


def _pool(dims: Sequence[int], bins: Sequence[int]) -> Callable[[Sketch], int]:
    mode = [NCHW, text("pooling_type", "avg"), boolean("adaptive", True)]
    return lambda s: s.op("pool2d", [s.input(*dims), s.integers(*bins)], [*dims[:2], *bins], *mode)


def _max_pool(dims: Sequence[int], bins: Sequence[int]) -> Callable[[Sketch], int]:
    mode = [i32s("kernel_size", bins), boolean("adaptive", True)]
    return lambda s: s.op("max_pool2d_with_index", [s.input(*dims)], [*dims[:2], *bins], *mode)


def _expand_to_a_list(s: Sketch) -> int:
    """The shape is [0-D int32, 1-D int32, 1-D int64]."""
    sizes = [s.op("full", [], dims, dtype=kind) for dims, kind in (([], "int32"), ([1], "int32"), ([1], "int64"))]
    combined = s.op("combine", sizes, [])
    s.ops[-1]["#"] = "0.combine"
    s.ops[-1]["O"][0]["TT"] = {"#": "0.t_vec", "D": []}
    return s.op("expand", [s.input(1, 3, 1), combined], [2, 3, 4])


IMAGE, OPEN = (1, 8, 6, 4), (-1, 8, -1, -1)

# rule -> (a graph that needs it, the operators that stand where the sick one stood)
SICK: dict[str, tuple[Callable[[Sketch], int], str]] = {
    "float64-attributes": (_unary("leaky_relu", IMAGE, IMAGE, f64("negative_slope", 0.1)), "leaky_relu"),
    "gelu-tanh": (
        _unary("gelu", IMAGE, IMAGE, boolean("approximate", True)),
        "multiply multiply full scale add full scale tanh full scale multiply",
    ),
    "celu": (_unary("celu", IMAGE, IMAGE, f32("alpha", 0.5)), "full scale elu full scale"),
    "reduce-all-axes": (lambda s: s.op("mean", [s.input(*IMAGE), s.integers()], [], DROP), "full_int_array mean"),
    "mean-all": (_unary("mean_all", IMAGE, []), "full_int_array mean"),
    "in-place-scale": (lambda s: s.op("scale_", [s.input(2), s.input()], [2], f32("bias", 0.0)), "scale"),
    "shape-list": (_expand_to_a_list, "cast full_int_array reshape cast combine full concat expand"),
    "amax": (_unary("amax", IMAGE, [1, 8], i64s("axis", [2, 3]), DROP), "full_int_array max"),
    "expand-as": (lambda s: s.op("expand_as", [s.input(1, 1, 1, 1), s.input(*OPEN)], OPEN), "shape64 expand"),
    "addmm": (
        lambda s: s.op(
            "addmm", [s.input(5), s.input(3, 4), s.input(4, 5)], [3, 5], f32("alpha", 2.0), f32("beta", 1.0)
        ),
        "matmul full scale add",
    ),
    "lerp": (lambda s: s.op("lerp", [s.input(2), s.input(2), s.input(1)], [2]), "subtract multiply add"),
    "masked-fill": (lambda s: s.op("masked_fill", [s.input(2), s.input(2), s.input()], [2]), "where"),
    "flip": (
        _unary("flip", OPEN, OPEN, i32s("axis", [2])),
        "full_int_array full_int_array full_int_array strided_slice",
    ),
    "channel-shuffle": (
        _unary("channel_shuffle", OPEN, OPEN, i32("groups", 2), NCHW),
        "full_int_array reshape transpose shape64 reshape",
    ),
    "repeat-interleave": (
        _unary("repeat_interleave", IMAGE, [1, 16, 6, 4], i32("repeats", 2), i32("axis", 1)),
        "full_int_array unsqueeze full_int_array tile flatten",
    ),
    "deformable-conv-v1": (
        lambda s: s.op(
            "deformable_conv", [s.input(*IMAGE), s.input(1, 18, 6, 4), s.input(4, 8, 3, 3), 0], [1, 4, 6, 4]
        ),
        "full_int_array full_int_array slice full scale deformable_conv",
    ),
    "nhwc": (
        lambda s: s.op("conv2d", [s.input(1, 6, 4, 8), s.input(4, 8, 3, 3)], [1, 4, 2, 4], NHWC),
        "transpose conv2d transpose",
    ),
    "adaptive-average": (_pool(OPEN, [1, 1]), ""),
    "adaptive-max": (_max_pool(IMAGE, [1, 1]), ""),
}


def _normalized(make: Callable[[Sketch], int]) -> tuple[list[Op], dict[str, int], int]:
    sketch = Sketch()
    result = make(sketch)
    sketch.ops.append(
        {"#": "1.fetch", "A": [text("name", "y")], "I": [{"%": result}], "O": [sketch.value([])], "OA": []}
    )
    program = sketch.program()
    before = copy.deepcopy(program)
    after, applied = normalize(program)
    assert program == before, "the original was changed"
    json.dumps(after)
    return block_of(after)["ops"], applied, result


def _names(ops: Sequence[Op], skip: str = "data fetch") -> list[str]:
    return [op["#"].partition(".")[2] for op in ops if op["#"].partition(".")[2] not in skip.split()]


def _check_well_formed(ops: Sequence[Op], result: int) -> None:
    """Every value is written once, before it is read; the result keeps its id."""
    written: set[int] = {0}
    for op in ops:
        assert {value["%"] for value in op["I"]} <= written, f"{op['#']} reads what is not written yet"
        outputs = {value["%"] for value in op["O"]}
        assert not outputs & written, f"{op['#']} writes a value again"
        written |= outputs
    assert result in written


def test_every_rule_is_tried_here() -> None:
    """A new rule without a test would be noticed by nobody."""
    assert set(SICK) == {rule.name for rule in RULES}
    assert all(rule.symptom for rule in RULES)


@pytest.mark.parametrize("rule", [name for name, (_, cured) in SICK.items() if cured])
def test_a_rule_replaces_the_operator(rule: str) -> None:
    """Each rule, alone: what stands in for the sick operator, in an order that can be executed."""
    make, cured = SICK[rule]
    ops, applied, result = _normalized(make)
    assert rule in applied
    _check_well_formed(ops, result)
    names = _names(ops)
    wanted = cured.split()
    assert names[-len(wanted) :] == wanted


@pytest.mark.parametrize(("dims", "bins"), [(OPEN, [3, 5]), (OPEN, [1, 4]), ((1, 8, 7, 5), [3, 5]), (IMAGE, [7, 7])])
def test_uneven_average_pooling_becomes_products(dims: Sequence[int], bins: Sequence[int]) -> None:
    """Open or undivided dimensions; the pooling itself must be gone."""
    ops, applied, result = _normalized(_pool(dims, bins))
    _check_well_formed(ops, result)
    assert applied == {"adaptive-average": 1}
    assert "pool2d" not in _names(ops)


@pytest.mark.parametrize(("dims", "bins"), [(OPEN, [1, 1]), (IMAGE, [3, 2]), (IMAGE, [1, 1]), (IMAGE, [6, 4])])
def test_even_pooling_is_left_alone(dims: Sequence[int], bins: Sequence[int]) -> None:
    """paddle2onnx makes one AveragePool or GlobalAveragePool of it, which runs faster."""
    ops, applied, _ = _normalized(_pool(dims, bins))
    assert applied == {}
    assert _names(ops) == ["full_int_array", "pool2d"]


def test_uneven_max_pooling_becomes_slices() -> None:
    """Bin i of 4 over 6 rows: rows 0-1, 1-2, 3-4, 4-5; then 4 over 4 columns, one each."""
    ops, applied, result = _normalized(_max_pool(IMAGE, [4, 4]))
    _check_well_formed(ops, result)
    assert applied == {"adaptive-max": 1}
    makers = {op["O"][0]["%"]: op for op in ops}
    bounds = [[array(makers[value["%"]], "value")[0] for value in op["I"][1:]] for op in ops if op["#"] == "1.slice"]
    assert bounds[:4] == [[0, 2], [1, 3], [3, 5], [4, 6]]
    assert bounds[4:] == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert _normalized(_max_pool(IMAGE, [3, 2]))[1] == {}


def test_float64_stays_where_it_is_read_as_such() -> None:
    """full and set_value hold doubles in paddle2onnx too."""
    ops, applied, _ = _normalized(lambda s: s.op("full", [], [1], f64("value", 0.1)))
    assert applied == {}
    assert ops[0]["A"][0]["AT"]["#"] == "0.a_f64"


def test_float64_in_arrays_is_rewritten() -> None:
    """The scale of an interpolation is a list: the fault that keeps PP-OCRv4 detection from converting."""
    scales: Op = {"AT": {"#": "0.a_array", "D": [{"#": "0.a_f64", "D": 2.0}] * 2}, "N": "scale"}
    ops, applied, _ = _normalized(_unary("nearest_interp", IMAGE, IMAGE, scales))
    assert applied == {"float64-attributes": 1}
    assert {item["#"] for item in ops[1]["A"][0]["AT"]["D"]} == {"0.a_f32"}
    assert attribute(ops[1], "scale")[0]["D"] == 2.0


@pytest.mark.parametrize(
    "healthy",
    [
        _unary("gelu", IMAGE, IMAGE, boolean("approximate", False)),
        _unary("flip", IMAGE, IMAGE, i32s("axis", [2])),
        lambda s: s.op("mean", [s.input(*IMAGE), s.integers(1)], [1, 6, 4], DROP),
        lambda s: s.op("expand_as", [s.input(1), s.input(*IMAGE)], IMAGE),
        lambda s: s.op("conv2d", [s.input(*IMAGE), s.input(4, 8, 3, 3)], IMAGE, NCHW),
        lambda s: s.op("deformable_conv", [s.input(1), s.input(1), s.input(1), s.input(1)], IMAGE),
    ],
)
def test_healthy_operators_are_left_alone(healthy: Callable[[Sketch], int]) -> None:
    """A rule that rewrites too much costs speed, and hides patterns that quantization looks for."""
    ops, applied, _ = _normalized(healthy)
    assert applied == {}
    assert _names(ops) == _names(_normalized(healthy)[0])


def test_regions_are_normalized_too() -> None:
    """The branches of an ``if`` hold operators as well."""
    inner, outer = Sketch(), Sketch()
    outer.input(*IMAGE)
    inner.values = 10
    inner.op("leaky_relu", [1], IMAGE, f64("negative_slope", 0.1))
    branch = inner.program()["program"]["regions"]
    outer.ops.append({"#": "1.if", "A": [], "I": [{"%": 1}], "O": [outer.value(IMAGE)], "OA": [], "regions": branch})
    after, applied = normalize(outer.program())
    assert applied == {"float64-attributes": 1}
    rewritten = block_of(after)["ops"][1]["regions"][0]["blocks"][0]["ops"][0]
    assert rewritten["A"][0]["AT"]["#"] == "0.a_f32"


def test_normalizing_twice_changes_nothing_more() -> None:
    """The rules' own output must not need a cure."""
    for make, _ in SICK.values():
        sketch = Sketch()
        make(sketch)
        once, _ = normalize(sketch.program())
        again, applied = normalize(once)
        assert applied == {}
        assert again == once


def test_a_malformed_operator_is_a_conversion_error() -> None:
    """A hostile or future program must not look like a bug of trtd."""
    sketch = Sketch()
    sketch.op("celu", [sketch.input(2)], [2])
    with pytest.raises(ConversionError, match="cannot read"):
        normalize(sketch.program())
