"""Simplify a converted graph with onnxruntime's own offline optimizer, and leave standard ONNX behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtd.errors import ConversionError
from trtd.model.onnx_file import EXTERNAL_MIN_BYTES, INSIDE_LIMIT_BYTES, weight_bytes, write
from trtd.model.onnx_folding import fold_transposed_convolutions

if TYPE_CHECKING:
    import onnx

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


def simplify(onnx_in: Path, onnx_out: Path) -> None:
    """Fold constants, BatchNorm and identities; infer shapes; name every node.

    onnxruntime's basic level does the folding (it stays within standard ONNX operators; higher levels do not), plus
    BatchNorm and biases behind transposed convolutions, which it leaves alone. Inputs and outputs keep names, order,
    dtypes and open dimensions.

    ``onnx_in`` comes from :func:`trtd.model.convert.to_onnx`: onnxruntime refuses graphs whose node names are doubled.
    Raises ``ConversionError`` if onnxruntime cannot load the graph or the result is not what it was.
    """
    model = _optimized(onnx_in, onnx_out)
    fold_transposed_convolutions(model)
    original = _interface_of(onnx_in)
    _check_interface(original, model, onnx_in)
    _check_domains(model, onnx_in)
    del model.graph.input[:]
    model.graph.input.extend(original.input)
    _infer_shapes(model)
    write(model, onnx_out)


def _optimized(onnx_in: Path, onnx_out: Path) -> onnx.ModelProto:
    """What onnxruntime's basic level makes of the model; its temporary files are gone afterwards."""
    import onnx
    import onnxruntime

    optimized = onnx_out.with_name(f".{onnx_out.name}.optimized")
    data = optimized.with_name(optimized.name + ".data")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(optimized)
    if _total_bytes(onnx_in) > INSIDE_LIMIT_BYTES:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data.name)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_MIN_BYTES)
        )
    try:
        onnxruntime.InferenceSession(str(onnx_in), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(optimized))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ConversionError(
            f"onnxruntime cannot load the converted graph: {_cause(error)}",
            hint="An operator was converted wrongly, or with a shape that ONNX forbids; the message names the node.",
            where=str(onnx_in),
        ) from error
    finally:
        optimized.unlink(missing_ok=True)
        data.unlink(missing_ok=True)


def _interface_of(file: Path) -> onnx.GraphProto:
    import onnx

    return onnx.load(str(file), load_external_data=False).graph


def _check_interface(before: onnx.GraphProto, model: onnx.ModelProto, where: Path) -> None:
    constants = {tensor.name for tensor in before.initializer}
    for what, old, new in (("inputs", before.input, model.graph.input), ("outputs", before.output, model.graph.output)):
        wanted = [(v.name, v.type.tensor_type.elem_type) for v in old if v.name not in constants]
        got = [(v.name, v.type.tensor_type.elem_type) for v in new if v.name not in constants]
        if wanted != got:
            raise ConversionError(
                f"simplification changed the {what} from {wanted} to {got}",
                hint="This is a fault of trtd or onnxruntime: please report it with the model.",
                where=str(where),
            )


def _check_domains(model: onnx.ModelProto, where: Path) -> None:
    """Refuse operators outside standard ONNX; forget the imports of domains that onnxruntime always lists."""
    strange = sorted({f"{n.domain}::{n.op_type}" for n in model.graph.node if n.domain not in _STANDARD_DOMAINS})
    if strange:
        raise ConversionError(
            f"the graph holds operators that are not standard ONNX: {', '.join(strange)}",
            hint="Export the model with standard operators only.",
            where=str(where),
        )
    kept = [entry for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _infer_shapes(model: onnx.ModelProto) -> None:
    """Fill in ``value_info``; best effort, as inference may not know every operator."""
    from onnx import shape_inference

    if weight_bytes(model) > INSIDE_LIMIT_BYTES:
        return
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError):
        return
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def _total_bytes(file: Path) -> int:
    """Size of the graph and of what lies beside it as external data."""
    data = file.with_name(file.name + ".data")
    return file.stat().st_size + (data.stat().st_size if data.exists() else 0)


def _cause(error: Exception) -> str:
    text = str(error).strip()
    return text.partition(" failed:")[2] or text
