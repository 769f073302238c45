"""Mend the non-maximum suppression that paddle2onnx writes where the number of boxes is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def mend_box_counts(model: onnx.ModelProto) -> int:
    """Give class offsets the number of boxes at run time; returns how many were mended.

    To look up a kept box's score, paddle2onnx computes ``class * boxes + box`` in the flattened scores
    (batch, classes, boxes). Where ``boxes`` is open it writes the constant -1, and the scores of other boxes decide
    silently which boxes survive ``keep_top_k``.
    """
    from onnx import helper

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    mended = 0
    for node in [n for n in graph.node if n.op_type == "Mul"]:
        suppression = _source_suppression(node.input[0], makers)
        if suppression is None or not _is_minus_one(makers.get(node.input[1])):
            continue
        stem = node.output[0]
        names = [f"{stem}.{part}" for part in ("score_shape", "from", "to", "boxes")]
        graph.initializer.append(helper.make_tensor(names[1], 7, [1], [2]))
        graph.initializer.append(helper.make_tensor(names[2], 7, [1], [3]))
        position = next(index for index, each in enumerate(graph.node) if each.output[:1] == node.output[:1])
        node.input[1] = names[3]
        graph.node.insert(position, helper.make_node("Slice", names[:3], [names[3]], names[3]))
        graph.node.insert(position, helper.make_node("Shape", [suppression.input[1]], [names[0]], names[0]))
        mended += 1
    return mended


def _source_suppression(name: str, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The NonMaxSuppression whose selected indices ``name`` was gathered from, if any."""
    node = makers.get(name)
    while node is not None and node.op_type == "Gather":
        node = makers.get(node.input[0])
    return node if node is not None and node.op_type == "NonMaxSuppression" else None


def _is_minus_one(node: onnx.NodeProto | None) -> bool:
    from onnx import numpy_helper

    if node is None or node.op_type != "Constant" or not node.attribute:
        return False
    value = numpy_helper.to_array(node.attribute[0].t)
    return value.dtype == "int64" and bool(value.size == 1) and bool(value.reshape(-1)[0] == -1)
