"""Where a quantized program is cut open, and what is refused instead."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.model.quantized_program import QuantizedProgram, small
from trtd.errors import ConversionError, ModelError, TrtdError
from trtd.model.facts import TensorFacts
from trtd.model.pir_cut import CutProgram, cut
from trtd.model.pir_facts import attribute, block_of, operators


def _reads(opened: CutProgram, name: str) -> list[list[str]]:
    """For each operator ``name``: the operators, inputs and parameters that it reads from."""
    ops = block_of(opened.program)["ops"]
    made: dict[int, str] = {}
    for op in ops:
        label = op["A"][3] if op["#"] == "p" else attribute(op, "name") or op["#"].partition(".")[2]
        for value in op["O"] if isinstance(op["O"], list) else [op["O"]]:
            made[value["%"]] = label
    return [[made[v["%"]] for v in op["I"]] for op in ops if op["#"] == f"1.{name}"]


def test_what_is_rounded_becomes_an_output_and_an_input() -> None:
    """The whole idea: nothing is left that paddle2onnx aborts on, and readers read the rounded value."""
    program = small().program
    before = copy.deepcopy(program)
    opened = cut(program, ["y"])
    assert program == before
    assert set(operators(opened.program)) == {"matmul", "relu"}
    assert [each.kind for each in opened.cuts] == ["weight", "rounded", "observed"]
    weight, rounded, observed = opened.cuts
    assert opened.inputs == (
        TensorFacts(name=weight.name, dtype="float32", shape=(3, 2)),
        TensorFacts(name=rounded.name, dtype="float32", shape=(None, 3)),
    )
    assert _reads(opened, "matmul") == [[rounded.name, weight.name]]
    assert _reads(opened, "fetch") == [["relu"]]
    assert (weight.rounding.weight, weight.rounding.scales, weight.rounding.axis) == ("w", ("w@scale",), 1)
    assert (weight.rounding.stored, rounded.rounding.stored) == (True, False)
    # paddle2onnx loses an output that is an input or another output: these go by the names they have
    assert (rounded.source, observed.source, opened.outputs) == ("x", "y", ())
    assert opened.parameters == frozenset()


def test_an_inner_value_becomes_one_output_for_all_its_roundings() -> None:
    """A residual branch is read rounded and plain; each reader must go on reading what it read."""
    made = QuantizedProgram()
    x = made.data("x", [4])
    inner = made.op("relu", [x], [4])
    first, second = made.round(inner, "a", [1.0], [4]), made.round(inner, "b", [2.0], [4])
    total = made.op("add", [made.op("add", [first, second], [4]), inner], [4])
    made.fetch("out", total, [4])
    opened = cut(made.program, ["out"])
    assert [each.rounding.scales for each in opened.cuts] == [("a@scale",), ("b@scale",)]
    assert len({each.source for each in opened.cuts}) == len(opened.outputs) == 1
    a, b = (each.name for each in opened.cuts)
    assert _reads(opened, "add") == [[a, b], ["add", "relu"]]
    assert _reads(opened, "fetch") == [["add"], ["relu"]]


def test_a_value_that_several_read_rounded_alike_is_one_input() -> None:
    """Dynamic graphs dequantize once a reader."""
    made = QuantizedProgram()
    x = made.data("x", [4])
    scale, zero = made.parameter("s", np.ones(1, np.float32)), made.parameter("z", np.zeros(1, np.int32))
    quantized = made.step("quantize_linear", x, scale, zero, [4])
    halves = [made.step("dequantize_linear", quantized, scale, zero, [4]) for _ in range(2)]
    made.fetch("out", made.op("add", halves, [4]), [4])
    opened = cut(made.program, ["out"])
    assert _reads(opened, "add") == [[opened.cuts[0].name] * 2]


def test_a_rounded_value_that_is_rounded_again() -> None:
    """An observed layer in front of a quantized one: two pairs with nothing between them."""
    made = QuantizedProgram()
    once = made.round(made.data("x", [4]), "a", [1.0], [4])
    made.fetch("out", made.op("relu", [made.round(once, "b", [2.0], [4])], [4]), [4])
    first, second = cut(made.program, ["out"]).cuts
    assert (first.source, second.source) == ("x", first.name)


def test_an_output_that_is_rounded_stays_an_output() -> None:
    """As a bare copy of an input, paddle2onnx would lose it."""
    opened = cut(_one().program, ["out"])
    assert _reads(opened, "fetch") == [["scale"]]
    assert _reads(opened, "scale") == [[opened.cuts[0].name, "full"]]


def test_the_range_of_a_constant_is_forgotten() -> None:
    """Paddle observes reshaped biases; as outputs of a graph they would keep constants from being folded."""
    made = QuantizedProgram()
    bias = made.op("reshape", [made.parameter("b", np.ones(4, np.float32)), made.op("full_int_array", [], [2])], [1, 4])
    made.fetch("out", made.op("relu", [made.round(bias, "b2", [1.0], [1, 4], only_observer=True)], [1, 4]), [1, 4])
    opened = cut(made.program, ["out"])
    assert opened.cuts == ()
    assert opened.parameters == {"b"}


def test_parameters_that_only_the_rounding_read_are_dropped() -> None:
    """paddle2onnx matches parameters with the file by number and order."""
    made = small()
    extra = made.parameter("bias", np.ones(2, np.float32))
    relu = next(op for op in made.ops if op["#"] == "1.relu")
    relu["I"].append({"%": extra})
    assert cut(made.program, ["y"]).parameters == {"bias"}


def _one(**changes: Any) -> QuantizedProgram:
    made = QuantizedProgram()
    made.fetch("out", made.round(made.data("x", [4]), "x", [1.0], [4], **changes), [4])
    return made


def _disagreeing() -> QuantizedProgram:
    made = _one()
    next(op for op in made.ops if op["#"] == "1.quantize_linear")["A"][0]["AT"]["D"] = 0
    return made


def _computed_scale() -> QuantizedProgram:
    made = QuantizedProgram()
    x, zero = made.data("x", [4]), made.parameter("z", np.zeros(1, np.int32))
    scale = made.op("abs", [x], [4])
    made.fetch(
        "out", made.step("dequantize_linear", made.step("quantize_linear", x, scale, zero, [4]), scale, zero, [4]), [4]
    )
    return made


def _integer_arithmetic() -> QuantizedProgram:
    made = QuantizedProgram()
    x, scale, zero = made.data("x", [4]), made.parameter("s", np.ones(1, np.float32)), made.parameter("z", np.zeros(1))
    doubled = made.op("scale", [made.step("quantize_linear", x, scale, zero, [4])], [4])
    made.fetch("out", made.step("dequantize_linear", doubled, scale, zero, [4]), [4])
    return made


def _integer_reader() -> QuantizedProgram:
    made = _one()
    quantized = next(op for op in made.ops if op["#"] == "1.quantize_linear")["O"][0]["%"]
    made.fetch("integers", made.op("relu", [quantized], [4]), [4])
    return made


def _state_reader() -> QuantizedProgram:
    made = _one()
    dequantize = next(op for op in made.ops if op["#"] == "1.dequantize_linear")
    dequantize["O"].append({"%": 99, "TT": dequantize["O"][0]["TT"]})
    made.fetch("state", 99, [4])
    return made


def _inside_a_branch() -> QuantizedProgram:
    made = _one()
    pair = [op for op in made.ops if "quantize_linear" in op["#"]]
    made.ops = [op for op in made.ops if op not in pair]
    made.op("if", [], [4], regions=[{"#": "r", "blocks": [{"#": "b", "args": [], "ops": pair}]}])
    return made


def _torn() -> QuantizedProgram:
    made = _one()
    next(op for op in made.ops if op["#"] == "1.dequantize_linear")["I"] = []
    return made


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: _one(bit_length=4, qmax=7), ConversionError, "'x@scale' belongs to is rounded to 4 bits"),
        (lambda: _one(qmax=448), ConversionError, "8-bit floats"),
        (lambda: _one(quant_axis=2), ConversionError, "axis 2"),
        (lambda: _one(is_test=False), ConversionError, "training mode"),
        (lambda: _one(dtype="float16"), ConversionError, "is float16"),
        (_disagreeing, ModelError, "has quant_axis 0, the dequantize operator behind it -1"),
        (_computed_scale, ModelError, "the scale of a quantize_linear operator is no parameter"),
        (_integer_arithmetic, ConversionError, "'scale' computes between"),
        (_integer_reader, ConversionError, "'relu' computes between"),
        (_state_reader, ConversionError, "running state"),
        (_inside_a_branch, ConversionError, "inside of an If or While"),
        (_torn, ModelError, "malformed"),
    ],
)  # fmt: skip
def test_what_onnx_cannot_say_is_refused(
    make: Callable[[], QuantizedProgram], error: type[TrtdError], says: str
) -> None:
    """Taken for 8-bit rounding, each of these would give a model that computes something else, or a traceback."""
    with pytest.raises(error, match=says) as caught:
        cut(make().program, ["out", "more"][: sum(op["#"] == "1.fetch" for op in make().ops)])
    assert caught.value.hint
