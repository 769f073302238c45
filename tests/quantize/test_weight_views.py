"""Scales follow a weight through nodes that rearrange it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.quantize.graphs import Net
from trtd.quantize.graph import constant
from trtd.quantize.weight_views import settle_views


@pytest.mark.parametrize(
    ("op", "extra", "attributes", "shape", "axis", "moved"),
    [
        ("Transpose", None, {"perm": [2, 0, 1]}, (2, 3, 4), 1, 2),
        ("Transpose", None, {}, (2, 3), 0, 1),
        ("Unsqueeze", [2], {}, (2, 3, 4), 2, 3),
        ("Squeeze", [1], {}, (2, 1, 4), 2, 1),
        ("Reshape", [3, 8], {}, (3, 2, 4), 0, 0),
        ("Reshape", [0, -1], {}, (3, 2, 4), 0, 0),
        ("Reshape", [6, 4], {}, (3, 2, 4), 2, 1),
        ("Reshape", [6, 4], {}, (3, 2, 4), 0, None),
        ("Identity", None, {}, (2, 3), -1, -1),
        ("Transpose", None, {}, (1, 3), 0, -1),
        ("Neg", None, {}, (2, 3), 1, None),
    ],
)
def test_the_channels_are_found_where_the_node_has_put_them(
    op: str,
    extra: list[int] | None,
    attributes: dict[str, list[int]],
    shape: tuple[int, ...],
    axis: int,
    moved: int | None,
) -> None:
    """On the wrong axis, scales either do not fit or, in square weights, belong to other channels without a word."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    net = Net({"x": [1]})
    weight = net.real("w", array)
    inputs = [weight] if extra is None else [weight, net.const("extra", np.array(extra, np.int64))]
    view = net.node(op, inputs, "view", **attributes)
    net.node("Add", [view, "x"], "y")
    model = ir.from_proto(net.model("y"))
    ((node, index, found),) = settle_views(model.graph, model.graph.initializers["w"], axis)
    if moved is None:
        assert (node.op_type, found) == (op, axis)
        return
    assert (node.op_type, index, found) == ("Add", 0, moved)
    result = constant(node.inputs[0])
    assert result is not None
    if moved >= 0:
        for channel in range(shape[axis]):
            assert set(result.take(channel, moved).flat) == set(array.take(channel, axis).flat)


def test_every_reader_is_found() -> None:
    """One weight may be read as it is and transposed."""
    net = Net({"x": ["N", 3]})
    weight = net.real("w", np.ones((3, 3)))
    net.node("MatMul", ["x", weight], "a")
    net.node("MatMul", ["x", net.node("Transpose", [weight], "t", perm=[1, 0])], "b")
    model = ir.from_proto(net.model("a", "b"))
    readers = settle_views(model.graph, model.graph.initializers["w"], 1)
    assert {(node.name, index, axis) for node, index, axis in readers} == {("a", 1, 1), ("b", 1, 0)}


def test_a_view_that_the_model_returns_stays() -> None:
    """Its output would be gone."""
    net = Net({"x": [2, 3]})
    net.node("Transpose", [net.real("w", np.ones((2, 3)))], "t", perm=[1, 0])
    net.node("MatMul", ["x", "t"], "y")
    model = ir.from_proto(net.model("y", "t"))
    ((node, _, _),) = settle_views(model.graph, model.graph.initializers["w"], 1)
    assert node.name == "t"
