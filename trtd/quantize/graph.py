"""Small questions and edits on an ONNX graph that every rewrite needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.errors import QuantizationError

# Above this, protobuf cannot hold the model in one file.
_EXTERNAL_DATA_BYTES = 1_800_000_000


def load(path: Path) -> ir.Model:
    """Load an ONNX model; raises ``QuantizationError`` if it is not one."""
    try:
        return ir.load(path)
    except Exception as error:
        raise QuantizationError(f"the graph cannot be read: {error}", where=str(path)) from error


def save(model: ir.Model, path: Path) -> None:
    """Write ``model``; weights go to ``<name>.data`` beside it only where protobuf could not hold them."""
    weights_bytes = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    external = f"{path.name}.data" if weights_bytes > _EXTERNAL_DATA_BYTES else None
    ir.save(model, path, external_data=external)


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The array behind an initializer; ``None`` for a computed, absent or input value."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def data_inputs(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """Inputs that are computed at run time, with their index."""
    return [(i, v) for i, v in enumerate(node.inputs) if v is not None and constant(v) is None]


def tensor_names(graph: ir.Graph) -> list[str]:
    """Inputs of the graph and everything that it computes."""
    return [value.name or "" for value in (*graph.inputs, *(v for node in graph for v in node.outputs))]


def is_float32(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only reader of ``value``; ``None`` if there are several or none, or it is the caller or in an If or Loop."""
    uses, producer = list(value.uses()), value.producer()
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = uses[0].node
    return reader if producer is None or reader.graph is producer.graph else None


def hand_over(value: ir.Value, heir: ir.Value) -> None:
    """Let ``heir`` be read wherever ``value`` was. If the graph returns ``value``, it returns ``heir`` by that name."""
    if value.is_graph_output():
        value.name, heir.name = f"{value.name}.before", value.name
    value.replace_all_uses_with(heir, replace_graph_outputs=True)


def add_constant(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """Register ``array`` as an initializer under ``name``, made unique."""
    unique, n = name, 0
    while unique in graph.initializers:
        n += 1
        unique = f"{name}_{n}"
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(name=unique, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.initializers[unique] = value
    return value


def set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    """Connect input ``index``, appending it where the node left the optional input out."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def remove_dead(graph: ir.Graph, roots: Iterable[ir.Node] | None = None) -> None:
    """Drop nodes that nothing reads, last first, then initializers that nothing reads."""
    for node in reversed(list(roots if roots is not None else graph)):
        if node.graph is graph and all(not o.uses() and not o.is_graph_output() for o in node.outputs):
            graph.remove(node, safe=True)
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        del graph.initializers[name]
