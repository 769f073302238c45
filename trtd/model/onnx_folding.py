"""Fold what follows a transposed convolution into its weights; onnxruntime does so for plain convolutions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx


def fold_transposed_convolutions(model: onnx.ModelProto) -> int:
    """Fold BatchNormalization and constant per-channel Add and Mul behind ConvTranspose, in place.

    Returns how many nodes went. Weights are (C_in, C_out / groups, kH, kW), so output channels lie on axis 1.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    gone: list[Any] = []
    for conv in [node for node in graph.node if node.op_type == "ConvTranspose"]:
        while (after := _only_consumer(graph, conv.output[0], outputs, gone)) is not None:
            if not _fold(graph, conv, after, constants):
                break
            gone.append(after)
            conv.output[0] = after.output[0]
    for node in gone:
        graph.node.remove(node)
    _drop_unused(graph)
    return len(gone)


def _only_consumer(graph: onnx.GraphProto, name: str, outputs: set[str], gone: list[Any]) -> onnx.NodeProto | None:
    if name in outputs:
        return None
    users = [node for node in graph.node if name in node.input and node not in gone]
    return users[0] if len(users) == 1 and list(users[0].input).count(name) == 1 else None


def _fold(graph: onnx.GraphProto, conv: onnx.NodeProto, after: onnx.NodeProto, constants: dict[str, Any]) -> bool:
    """Fold ``after`` into ``conv``'s weights if it is a per-channel affine map; says whether it was."""
    from onnx import numpy_helper

    groups = next((a.i for a in conv.attribute if a.name == "group"), 1)
    if conv.input[1] not in constants or groups != 1 or (len(conv.input) > 2 and conv.input[2] not in constants):
        return False
    weight = numpy_helper.to_array(constants[conv.input[1]])
    affine = _affine(conv.output[0], after, constants, weight.shape[1], weight.ndim)
    if affine is None or weight.dtype != affine[0].dtype:
        return False
    factor, shift = affine
    has_bias = len(conv.input) > 2 and conv.input[2]
    bias = numpy_helper.to_array(constants[conv.input[2]]) if has_bias else 0 * shift
    stem = after.output[0]
    new_weight = weight * factor.reshape(1, -1, *[1] * (weight.ndim - 2))
    for index, (suffix, array) in enumerate((("weight", new_weight), ("bias", bias * factor + shift)), start=1):
        tensor = numpy_helper.from_array(array.astype(weight.dtype), f"{stem}.folded_{suffix}")
        graph.initializer.append(tensor)
        constants[tensor.name] = tensor
        if index < len(conv.input):
            conv.input[index] = tensor.name
        else:
            conv.input.append(tensor.name)
    return True


def _affine(
    value: str, node: onnx.NodeProto, constants: dict[str, Any], channels: int, rank: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """(factor, shift), each of shape (channels,), if ``node`` maps each channel c to factor[c] * value + shift[c]."""
    import numpy as np
    from onnx import numpy_helper

    others = [name for name in node.input if name != value]
    if not all(name in constants for name in others):
        return None
    arrays = [numpy_helper.to_array(constants[name]) for name in others]
    if node.op_type == "BatchNormalization" and node.input[0] == value:
        scale, bias, mean, variance = (a.astype(np.float64) for a in arrays)
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        return factor.astype(arrays[0].dtype), (bias - mean * factor).astype(arrays[0].dtype)
    if node.op_type not in ("Add", "Mul") or len(arrays) != 1:
        return None
    (array,) = arrays
    padded = (1,) * (rank - array.ndim) + array.shape
    if (
        len(padded) != rank
        or any(dim != 1 for axis, dim in enumerate(padded) if axis != 1)
        or padded[1] not in (1, channels)
    ):
        return None
    row = np.broadcast_to(array.reshape(-1), (channels,))
    zeros, ones = np.zeros_like(row), np.ones_like(row)
    return (row.copy(), zeros) if node.op_type == "Mul" else (ones, row.copy())


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return  # a subgraph may use a constant of this graph by name
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)
