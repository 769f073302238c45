"""Read, check, repair and write ONNX models: both those that people bring and those that were just converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.errors import ConversionError
from trtd.model.facts import ModelFacts
from trtd.model.onnx_file import write
from trtd.model.onnx_repair import repair

if TYPE_CHECKING:
    import onnx

Log = Callable[[str], None]

LOWEST_OPSET = 13
RAISED_OPSET = 17


def copy_checked(model_file: Path, out: Path, log: Log) -> None:
    """Check a brought ONNX model and write it to ``out``, raising an opset below 13.

    Raises ``ConversionError`` if ONNX's checker refuses it or an operator cannot be raised.
    """
    import onnx
    from onnx import version_converter

    model = _checked(model_file, model_file)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LOWEST_OPSET:
        log(f"raising opset {opset} to {RAISED_OPSET}: opsets below {LOWEST_OPSET} have no per-channel quantization")
        try:
            model = version_converter.convert_version(model, RAISED_OPSET)
            onnx.checker.check_model(model)
        except Exception as error:  # the converter raises RuntimeError, ConvertError and more
            raise ConversionError(
                f"opset {opset} cannot be raised to {RAISED_OPSET}: {_first_line(error)}",
                hint=f"Export the model with opset {LOWEST_OPSET} or above.",
                where=str(model_file),
            ) from error
    _drop_stored_inputs(model)
    write(model, out)


def _drop_stored_inputs(model: onnx.ModelProto) -> None:
    """Exporters of old list every weight among the inputs, so that it could be overridden: nobody could fold it."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, 4)  # before 4, weights had to be inputs


def finish(raw: Path, out: Path, facts: ModelFacts, log: Log) -> None:
    """Repair what paddle2onnx wrote to ``raw``, check it and write it to ``out``. Raises ``ConversionError``."""
    import onnx

    model = onnx.load(str(raw))
    repair(model, facts.inputs, facts.outputs)
    write(model, out)
    _checked(out, facts.files[0])
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    log(f"ONNX opset {opset}, {len(model.graph.node)} nodes")


def _checked(file: Path, where: Path) -> onnx.ModelProto:
    import onnx

    try:
        onnx.checker.check_model(str(file))
        return onnx.load(str(file))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ConversionError(
            f"ONNX's own checker refuses the graph: {_first_line(error)}",
            hint="If it was converted, an operator was converted wrongly; if you brought it, export it again.",
            where=str(where),
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
