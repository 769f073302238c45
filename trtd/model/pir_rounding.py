"""Read the quantize and dequantize operators of a PIR program, two by two, as steps of rounding.

What they compute (Paddle 3.3, phi kernels: ``impl/quantize_linear_impl.h``, ``funcs/fake_quantize_functor.h``):
``quantize_linear`` gives ``clip(round(127 / scale * x), -128, 127)``, halves to even unless ``round_type`` is 1;
``dequantize_linear`` gives ``x * scale / 127``. So Paddle's scale is the largest magnitude, 127 times ONNX's. Zero
points are stored but never read. With ``only_observer`` both pass their input on: they record a range only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trtd.errors import ConversionError, ModelError
from trtd.model.pir_edit import Editor, Op
from trtd.model.pir_facts import attribute

QUANTIZE, DEQUANTIZE = "1.quantize_linear", "1.dequantize_linear"
BITS, QMAX = 8, 127
_CHANNEL_AXES = (0, 1)  # Paddle's kernels know no others
_SAVE_AGAIN = "The program was edited or is damaged: export the quantized model again."


@dataclass(frozen=True)
class Rounding:
    """One value, and how the program rounds it.

    Attributes:
        value: id of what is rounded, or was stored rounded.
        result: id of what the dequantize operator yields.
        weight: name of the parameter, if ``value`` is one; else empty.
        stored: whether the weight is stored as whole numbers; else it is rounded whenever the program runs.
        scales: names of the parameters with the largest magnitude: one, or two that must hold the same.
        zero_points: names of the parameters with zero points.
        axis: of the channels that have a scale each; -1 for one scale.
        observes: whether only the range is recorded.
        ties_away: whether halves are rounded away from zero, which ONNX cannot say.
    """

    value: int
    result: int
    weight: str
    stored: bool
    scales: tuple[str, ...]
    zero_points: tuple[str, ...]
    axis: int
    observes: bool
    ties_away: bool


def roundings(ops: Sequence[Op], editor: Editor) -> Iterator[Rounding]:
    """Every dequantize operator of ``ops``, with the quantize operator that it reads from.

    Raises ``ConversionError`` for arithmetic that is not symmetric rounding to 8 bits.
    """
    for op in ops:
        if op["#"] == DEQUANTIZE:
            maker = editor.makers.get(op["I"][0]["%"], {"#": ""})
            yield _rounding([maker, op] if maker["#"] == QUANTIZE else [op], editor)
    between = {op["O"][0]["%"] for op in ops if op["#"] == QUANTIZE}
    for op in ops:
        if op["#"] != DEQUANTIZE and between & {value["%"] for value in op.get("I", ())}:
            raise _integer_arithmetic(op["#"])


def _rounding(steps: list[Op], editor: Editor) -> Rounding:
    """``steps``: a dequantize operator, behind its quantize operator if it has one."""
    value = int(steps[0]["I"][0]["%"])
    weight = _parameter_name(editor, value)
    if not weight and len(steps) == 1:
        raise _integer_arithmetic(editor.makers.get(value, {"#": "1.nothing"})["#"])
    scales = _unique(_parameter_of(step, 1, "scale", editor) for step in steps)
    axis = int(_agreed(steps, "quant_axis", -1))
    _check(steps, scales[0], axis)
    return Rounding(
        value=value,
        result=int(steps[-1]["O"][0]["%"]),
        weight=weight,
        stored=len(steps) == 1,
        scales=scales,
        zero_points=_unique(_parameter_of(step, 2, "zero point", editor) for step in steps),
        axis=axis,
        observes=bool(_agreed(steps, "only_observer", False)),
        ties_away=_agreed(steps, "round_type", 0) == 1,
    )


def _check(steps: list[Op], scale: str, axis: int) -> None:
    bits, qmax = int(_agreed(steps, "bit_length", BITS)), int(_agreed(steps, "qmax", QMAX))
    if bits == BITS and qmax > QMAX:
        raise ConversionError(
            f"what '{scale}' belongs to is rounded to 8-bit floats",
            hint="FP8 is not imported: quantize the model to 8-bit integers (quant_bits=8).",
        )
    if (bits, qmax) != (BITS, QMAX):
        raise ConversionError(
            f"what '{scale}' belongs to is rounded to {bits} bits",
            hint="Only 8 bits are imported: quantize the model with weight_bits=8 and activation_bits=8.",
        )
    if axis >= 0 and axis not in _CHANNEL_AXES:
        raise ConversionError(
            f"'{scale}' has a scale for each index of axis {axis}", hint=f"Paddle rounds along {_CHANNEL_AXES} alone."
        )
    if not all(_agreed([step], "is_test", True) for step in steps):
        raise ConversionError(
            f"the operator with '{scale}' was saved in training mode: it takes its scale from whatever it is fed",
            hint="Call model.eval() and convert() before saving, or save with for_test=True.",
        )


def _agreed(steps: list[Op], name: str, default: Any) -> Any:
    """An attribute that all ``steps`` must have alike."""
    values = [default if (value := attribute(step, name)) is None else value for step in steps]
    if any(value != values[0] for value in values):
        raise ModelError(
            f"a quantize operator has {name} {values[0]}, the dequantize operator behind it {values[-1]}",
            hint=_SAVE_AGAIN,
        )
    return values[0]


def _parameter_of(step: Op, index: int, what: str, editor: Editor) -> str:
    name = _parameter_name(editor, step["I"][index]["%"])
    if not name:
        raise ModelError(f"the {what} of a {step['#'][2:]} operator is no parameter of the program", hint=_SAVE_AGAIN)
    return name


def _parameter_name(editor: Editor, value: int) -> str:
    maker = editor.makers.get(value)
    return str(maker["A"][3]) if maker is not None and maker["#"] == "p" else ""


def _integer_arithmetic(name: str) -> ConversionError:
    return ConversionError(
        f"'{name.partition('.')[2]}' computes between a quantize and a dequantize operator",
        hint="Arithmetic on rounded integers cannot be imported: give the float model, and let trtd quantize it.",
    )


def _unique(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
