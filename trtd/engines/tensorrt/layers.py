"""What an engine really consists of: layers, their precisions, and the operators of the graph that were fused in them.

"INT8" that silently runs FP16 is the commonest complaint about TensorRT (NVIDIA/TensorRT issues 585, 993, 3724): the
engine inspector shows it. Source: NVIDIA TensorRT documentation, "Engine Inspector".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from trtd.document import Document

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TYPES = {"float": "fp32", "half": "fp16", "int8": "int8", "fp8": "fp8", "bf16": "bf16", "int32": "int32"}
_EIGHT_BIT = ("int8", "fp8")


class Layer(Document):
    """One layer of an engine.

    Attributes:
        kind: TensorRT's type of it.
        precision: type of what it reads: ``int8``, ``fp16``, ``fp32``; empty if it reads nothing.
        nodes: names of the graph's nodes in it.
        time_ms: of one run, on the device; ``None`` if it was not profiled.
    """

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]
    time_ms: float | None = None


class Layers(Document):
    """All layers of an engine, and which of the nodes that should run in 8 bits do not.

    Attributes:
        quantizable: number of nodes with Q/DQ around them.
        not_in_8_bits: those of them that no layer with 8-bit inputs holds.
    """

    layers: tuple[Layer, ...]
    quantizable: int = 0
    not_in_8_bits: tuple[str, ...] = ()


def read_layers(trt: Any, engine: Any, quantized: Collection[str], times_ms: Mapping[str, float]) -> Layers:
    """Ask the engine inspector.

    Args:
        quantized: names of the graph's nodes that Q/DQ was written around.
        times_ms: by layer, of one run.
    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_layers(text, quantized, times_ms)


def parse_layers(text: str, quantized: Collection[str], times_ms: Mapping[str, float]) -> Layers:
    """The inspector's JSON. Layers that TensorRT describes by name alone have no precision."""
    found = []
    for entry in json.loads(text)["Layers"]:
        described = entry if isinstance(entry, dict) else {"Name": str(entry)}
        name = described["Name"]
        found.append(
            Layer(
                name=name,
                kind=described.get("LayerType", ""),
                precision=_precision(described),
                nodes=tuple(dict.fromkeys(_ONNX_LAYER.findall(described.get("Metadata") or ""))),
                time_ms=times_ms.get(name),
            )
        )
    in_8_bits = {node for layer in found if layer.precision in _EIGHT_BIT for node in layer.nodes}
    missing = tuple(node for node in quantized if node not in in_8_bits)
    return Layers(layers=tuple(found), quantizable=len(quantized), not_in_8_bits=missing)


def _precision(entry: Mapping[str, Any]) -> str:
    """The lowest precision among the tensors that a layer reads at run time."""
    types = []
    for tensor in entry.get("Inputs", []):
        said = tensor.get("Datatype") or tensor.get("Format/Datatype", "")
        types.append(_TYPES.get(said.partition(" ")[0].lower(), said))
    return next((t for t in ("int8", "fp8", "bf16", "fp16", "fp32") if t in types), types[0] if types else "")


def make_profiler(trt: Any, times_ms: dict[str, float]) -> Any:
    """A ``trt.IProfiler`` that adds what each layer took to ``times_ms``."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times_ms[layer_name] = times_ms.get(layer_name, 0.0) + ms

    return Profiler()
