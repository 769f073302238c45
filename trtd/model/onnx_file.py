"""Write ONNX models: nodes named, and weights beside the graph where protobuf cannot hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

INSIDE_LIMIT_BYTES = 1_900_000_000  # protobuf ends at 2 GiB; the rest is left for the graph itself
EXTERNAL_MIN_BYTES = 1024  # smaller tensors stay in the graph, where shape inference can read them


def write(model: onnx.ModelProto, out: Path) -> None:
    """Write ``model`` to ``out``, its nodes named; weights too large for one file go to ``out``.data."""
    import onnx

    name_nodes(model.graph)
    if weight_bytes(model) <= INSIDE_LIMIT_BYTES:
        onnx.save(model, str(out))
        return
    data = out.with_name(f"{out.name}.data")
    data.unlink(missing_ok=True)  # onnx appends
    onnx.save(
        model,
        str(out),
        save_as_external_data=True,
        location=data.name,
        size_threshold=EXTERNAL_MIN_BYTES,
        convert_attribute=True,
    )


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the weights held in memory. (``ByteSize`` fails above 2 GiB.)"""
    return sum(len(tensor.raw_data) for tensor in _tensors(model.graph))


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a unique name: its own where that is unique, else ``<op>_<position>``."""
    counts = Counter(node.name for node in graph.node)
    taken = {name for name in counts if counts[name] == 1}
    for position, node in enumerate(graph.node):
        if node.name and counts[node.name] == 1:
            continue
        name = f"{node.op_type}_{position}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
