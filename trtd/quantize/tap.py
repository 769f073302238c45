"""Inner tensors from outside: the same graph with more outputs, or with more inputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from trtd.quantize.graph import load, save


def tap(source: Path, names: Iterable[str], out: Path) -> list[str]:
    """Write ``source`` to ``out`` with the named tensors as further outputs; returns those that the graph computes."""
    model = load(source)
    graph = model.graph
    known = {v.name: v for node in graph for v in node.outputs}
    exposed = []
    for name in dict.fromkeys(names):
        value = known.get(name)
        if value is None:
            continue
        if not value.is_graph_output():
            graph.outputs.append(value)
        exposed.append(name)
    save(model, out)
    return exposed


def supply(model: ir.Model, names: Iterable[str]) -> dict[str, str]:
    """Let the readers of each named tensor read an input instead, in place; returns the inputs' names by the tensors'.

    What computes those tensors stays. So one part of a graph can be given what another implementation computes.
    """
    graph = model.graph
    known = {v.name: v for node in graph for v in node.outputs}
    supplied = {}
    for name in names:
        value = known[name]
        given = ir.Value(name=f"{name}.supplied", type=value.type, shape=value.shape)
        graph.inputs.append(given)
        value.replace_all_uses_with(given)
        supplied[name] = given.name or ""
    return supplied
