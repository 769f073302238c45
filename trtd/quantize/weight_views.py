"""Weights behind nodes that only rearrange them: transposed, reshaped, with axes of 1 added or removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.quantize.graph import add_constant, constant

Array = np.ndarray[Any, Any]


def settle_views(graph: ir.Graph, value: ir.Value, axis: int) -> list[tuple[ir.Node, int, int]]:
    """Compute what nodes make of the constant ``value`` by rearranging it, and follow its channel axis.

    Returns each node that reads it in the end: the node, by which input, and on which axis the channels lie there (-1:
    on none). Scales cannot follow a node that mixes channels with another axis: such a node reads ``value`` in the end.
    """
    array = constant(value)
    assert array is not None
    readers = []
    for node, index in list(value.uses()):
        moved = _rearranged(node, array) if index == 0 else None
        where = None if moved is None else _follow(node, array.shape, axis)
        if moved is None or where is None:
            readers.append((node, index, axis))
            continue
        heir = add_constant(graph, f"{value.name}.{node.op_type.lower()}", np.ascontiguousarray(moved))
        node.outputs[0].replace_all_uses_with(heir)
        graph.remove(node, safe=True)
        readers += settle_views(graph, heir, where)
    return readers


def _follow(node: ir.Node, shape: tuple[int, ...], axis: int) -> int | None:
    """The axis that holds, behind ``node``, what lay on ``axis``; ``None`` if no single axis does."""
    if axis < 0 or shape[axis] == 1:
        return -1
    at = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    moved = _rearranged(node, np.broadcast_to(at, shape))
    assert moved is not None
    for candidate, length in enumerate(moved.shape):
        line = np.arange(length).reshape([-1 if i == candidate else 1 for i in range(moved.ndim)])
        if length == shape[axis] and np.array_equal(moved, np.broadcast_to(line, moved.shape)):
            return candidate
    return None


def _rearranged(node: ir.Node, array: Array) -> Array | None:
    """What ``node`` makes of ``array``; ``None`` if it does more than rearrange, or depends on what is not constant."""
    extra = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.outputs[0].is_graph_output():
        return None
    match node.op_type:
        case "Identity":
            return array
        case "Transpose":
            return array.transpose(node.attributes.get_ints("perm", list(range(array.ndim))[::-1]))
        case "Unsqueeze" if extra is not None:
            return np.expand_dims(array, tuple(int(a) for a in extra))
        case "Squeeze":
            return array.squeeze(None if extra is None else tuple(int(a) for a in extra))
        case "Reshape" if extra is not None and not node.attributes.get_int("allowzero", 0):
            return array.reshape([array.shape[i] if dim == 0 else int(dim) for i, dim in enumerate(extra)])
    return None
