"""FP16 as types in the graph, with FP32 inputs, outputs and islands."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from trtd.errors import QuantizationError
from trtd.quantize.graph import load, save

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

    Uses onnxruntime's converter, with its own list of operators that lack FP16 kernels, plus :data:`FP32_OPS`.

    Args:
        exclude: names or globs of nodes that stay FP32.
        exclude_ops: further operator types that stay FP32.

    Returns:
        Names of the nodes that stayed FP32.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = load(source)
    blocked_ops = {*DEFAULT_OP_BLOCK_LIST, *FP32_OPS, *exclude_ops}
    names = [node.name or "" for node in model.graph]
    blocked = [n for n in names if any(fnmatchcase(n, pattern) for pattern in exclude)]
    kept = [n.name or "" for n in model.graph if n.op_type in blocked_ops or n.name in blocked]
    try:
        converted = convert_float_to_float16(
            onnx.load(source),
            keep_io_types=True,
            op_block_list=sorted(blocked_ops),
            node_block_list=blocked,
        )
        onnx.save(converted, out)
    except Exception as error:
        raise QuantizationError(
            f"the graph could not be converted to FP16: {error}",
            where=source.name,
            hint='keep the node that is named here in FP32: [quantization] exclude = ["NODE"]',
        ) from error
    save(load(out), out)
    return kept
