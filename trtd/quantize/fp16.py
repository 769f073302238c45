"""FP16 as types in the graph, with FP32 inputs, outputs and islands, and beside Q/DQ if there are any."""

from __future__ import annotations

from collections.abc import Sequence, Set
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from trtd.errors import QuantizationError
from trtd.quantize.graph import constant, hand_over, is_float32, load, remove_dead, save

if TYPE_CHECKING:
    import onnx

# The first opset whose QuantizeLinear takes float16.
LOWEST_OPSET_FOR_QDQ = 19
QDQ = ("QuantizeLinear", "DequantizeLinear")

# Sums over many elements and exponentials overflow at 65504 or lose the small terms: they stay FP32.
FP32_OPS = (
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "BatchNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "Softmax",
    "LogSoftmax",
    "Exp",
    "Log",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "CumSum",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceProd",
    "GlobalAveragePool",
    "Range",
)


def to_fp16(source: Path, out: Path, *, exclude: Sequence[str] = (), exclude_ops: Sequence[str] = ()) -> list[str]:
    """Write ``source`` with float16 weights and activations; inputs and outputs keep float32.

    Uses onnxruntime's converter, with its own list of operators that lack FP16 kernels, plus :data:`FP32_OPS` and
    whatever reads a constant that FP16 cannot hold. Neighbours that stay FP32 pass FP32 to each other. Scales of Q/DQ
    are rounded to float16 too: by 0.05 % at most and, below 6e-5, by 3e-8.

    Args:
        exclude: names or globs of nodes that stay FP32.
        exclude_ops: further operator types that stay FP32.

    Returns:
        Names of the nodes that stayed FP32.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    nodes = list(load(source).graph)
    blocked_ops = {*DEFAULT_OP_BLOCK_LIST, *FP32_OPS, *exclude_ops}
    blocked = [n.name or "" for n in nodes if _is_named(n, exclude) or any(map(_beyond_fp16, n.inputs))]
    kept = [n.name or "" for n in nodes if n.op_type in blocked_ops or n.name in blocked]
    try:
        converted = convert_float_to_float16(
            _without_typed_initializers(_with_float16_scales(onnx.load(source))),
            keep_io_types=True,
            op_block_list=sorted(blocked_ops),
            node_block_list=blocked,
        )
        model = ir.from_proto(converted)
    except Exception as error:
        raise QuantizationError(
            f"the graph could not be converted to FP16: {error}",
            where=source.name,
            hint='keep the node that is named here in FP32: [quantization] exclude = ["NODE"]',
        ) from error
    _join_islands(model.graph, {n.name for n in nodes})
    save(model, out)
    return kept


def _with_float16_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """Raise the opset where Q/DQ need that to take float16."""
    from onnx import version_converter

    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= LOWEST_OPSET_FOR_QDQ or not any(node.op_type in QDQ for node in model.graph.node):
        return model
    return version_converter.convert_version(model, LOWEST_OPSET_FOR_QDQ)


def _without_typed_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnx-ir writes types of initializers; the converter takes a typed name for a computed tensor and casts it."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    computed = [info for info in model.graph.value_info if info.name not in initializers]
    del model.graph.value_info[:]
    model.graph.value_info.extend(computed)
    return model


def _is_named(node: ir.Node, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(node.name or "", pattern) for pattern in patterns)


def _beyond_fp16(value: ir.Value | None) -> bool:
    """True for a float32 constant with a finite value above FP16's largest, or with none above its smallest normal."""
    array = constant(value)
    if value is None or array is None or array.dtype != np.float32:
        return False
    peak = np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max(initial=0)
    limits = np.finfo(np.float16)
    is_scale = all(use.node.op_type in QDQ for use in value.uses())
    return bool(peak > limits.max or (0 < peak < limits.tiny and not is_scale))


def _join_islands(graph: ir.Graph, originals: Set[str | None]) -> None:
    """Drop the converter's FP32 to FP16 to FP32 between neighbours, where what passes may well exceed FP16's range."""
    for widen in list(graph):
        narrow = widen.inputs[0].producer() if widen.op_type == "Cast" and widen.inputs[0] is not None else None
        if narrow is None or narrow.op_type != "Cast" or {widen.name, narrow.name} & originals:
            continue
        exact, output = narrow.inputs[0], widen.outputs[0]
        if exact is None or not is_float32(exact) or not is_float32(output):
            continue
        if output.is_graph_output() and (exact.is_graph_output() or exact.is_graph_input()):
            continue
        hand_over(output, exact)
    graph.sort()
    remove_dead(graph)
