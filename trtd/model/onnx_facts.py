"""Facts of an ONNX model, read with the partial messages of :mod:`trtd.model.proto`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtd.errors import ModelError
from trtd.model.facts import TensorFacts
from trtd.model.proto import read_message, text

# TensorProto.DataType -> numpy dtype name, bits per element (0: variable)
DTYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("str", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
}
EXTERNAL = 1
_DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


@dataclass(frozen=True)
class GraphFacts:
    """What an ONNX model declares."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    ops: Mapping[str, int]
    opset: int


def read(file: Path) -> GraphFacts:
    """Read an ``.onnx`` file.

    An output without a stored shape gets the shape ``()``: ONNX lets a graph leave it out. Raises ``ModelError`` if
    the file is truncated, or if a tensor does not fit its declared shape.
    """
    model = read_message("OnnxModel", file)
    graph = model.graph
    if not (model.HasField("graph") and graph.node and graph.output and model.opset_import):
        raise ModelError(
            "this is no whole ONNX model: its graph, its outputs or its opset are missing",
            hint="The file is truncated or is of another kind; copy or export it again.",
            where=str(file),
        )
    for tensor in walk_tensors(model):
        _check_size(tensor, file)
    opsets = {text(entry.domain, file): entry.version for entry in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None:
        raise ModelError(
            "the model imports no version of the default ONNX operators", hint="Export it again.", where=str(file)
        )
    constants = {value.name for value in graph.initializer}
    ops = Counter(text(node.op_type, file) for node in walk_nodes(model))
    return GraphFacts(
        inputs=tuple(_tensor(value, file) for value in graph.input if value.name not in constants),
        outputs=tuple(_tensor(value, file, shape_needed=False) for value in graph.output),
        ops=ops,
        opset=opset,
    )


def walk_nodes(model: Any) -> Iterator[Any]:
    """Every node of the graph, of nested subgraphs and of the model's functions."""
    stack = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            stack += [inner for graph in graphs for inner in graph.node]


def walk_tensors(model: Any) -> Iterator[Any]:
    """Every stored tensor: initializers, sparse ones, and those in attributes, at any depth."""
    graphs = [model.graph]
    for node in walk_nodes(model):
        for attribute in node.attribute:
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices


def tensor_bytes(tensor: Any, file: Path) -> int | None:
    """Size of a stored tensor by its dims and dtype; ``None`` where the dtype has no fixed size."""
    if tensor.data_type not in DTYPES or any(dim < 0 for dim in tensor.dims):
        raise _misfit(tensor, file, f"dtype {tensor.data_type} and dims {list(tensor.dims)}")
    bits = DTYPES[tensor.data_type][1]
    return -(-math.prod(tensor.dims) * bits // 8) if bits else None


def _check_size(tensor: Any, file: Path) -> None:
    wanted = tensor_bytes(tensor, file)
    if tensor.data_location == EXTERNAL:
        return  # trtd.model.external_data compares it with the file it points into
    if tensor.HasField("raw_data"):
        if wanted is None or len(tensor.raw_data) != wanted:
            raise _misfit(tensor, file, f"{len(tensor.raw_data)} bytes where {wanted} belong")
        return
    elements = math.prod(tensor.dims)
    bits = DTYPES[tensor.data_type][1]
    packed = -(-elements * bits // 8) if 0 < bits < 8 else elements
    if DTYPES[tensor.data_type][0].startswith("complex"):
        packed = elements * 2
    held = sum(len(getattr(tensor, field)) for field in _DATA_FIELDS)
    if held != packed:
        raise _misfit(tensor, file, f"{held} values where {packed} belong")


def _misfit(tensor: Any, file: Path, what: str) -> ModelError:
    return ModelError(
        f"tensor '{text(tensor.name, file)}' is damaged: {what}",
        hint="The file is truncated or was written wrongly; copy or export it again.",
        where=str(file),
    )


def _tensor(value: Any, file: Path, *, shape_needed: bool = True) -> TensorFacts:
    name = text(value.name, file)
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise ModelError(
            f"'{name}' is no tensor of a known dtype (a sequence or a map, perhaps)",
            hint="Only tensors can be inputs and outputs; remove the ZipMap or sequence when exporting.",
            where=str(file),
        )
    if shape_needed and not kind.HasField("shape"):
        raise ModelError(
            f"input '{name}' has no rank",
            hint="Export the model with an input signature; open dimensions may stay open.",
            where=str(file),
        )
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in kind.shape.dim)
    return TensorFacts(name=name, dtype=DTYPES[kind.elem_type][0], shape=shape)
