"""Making inner tensors visible: the same graph with more outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
