"""The layers of an engine as a table."""

from __future__ import annotations

from collections import Counter

from trtd.engines.tensorrt.layers import Layers
from trtd.ui import figures
from trtd.ui.tables import Cell, Column


def layer_columns(found: Layers) -> list[Column]:
    """Time, precision, kind and name of every layer, and the nodes of the graph in it."""
    layers = found.layers
    times = [figures.ABSENT if layer.time_ms is None else figures.millis(layer.time_ms) for layer in layers]
    return [
        Column("ms", tuple(map(Cell, times)), right=True),
        Column("Prec.", tuple(Cell(layer.precision or figures.ABSENT) for layer in layers)),
        Column("Kind", tuple(Cell(layer.kind, foreign=True) for layer in layers), 1),
        Column("Layer", tuple(Cell(layer.name, foreign=True) for layer in layers), 2, folds=True),
        Column("Nodes", tuple(Cell(", ".join(layer.nodes), foreign=True) for layer in layers), folds=True),
    ]


def layer_summary(found: Layers) -> list[str]:
    """How many layers read what precision, and how many of the quantized nodes really run in 8 bits."""
    counts = Counter(layer.precision or "nothing" for layer in found.layers)
    lines = [
        f"{len(found.layers)} layers, by what they read: " + ", ".join(f"{n} {p}" for p, n in counts.most_common())
    ]
    if found.quantizable:
        missing = found.not_in_8_bits
        lines.append(f"{found.quantizable - len(missing)} of {found.quantizable} quantized nodes run in 8 bits")
        lines += [f"  not {name}" for name in missing]
    return lines
