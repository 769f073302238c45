"""What was published last, and how it did."""

from __future__ import annotations

from rich.text import Text

from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined
from trtd.ui.dashboard.panels import figures_row
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.selected import engine_line
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import QUIET

_FIGURES = 2 + figures_row.SPEEDUP + 2 + figures_row.SQNR + 2 + 2 + figures_row.SIZE
_MORE = 2 + figures_row.COSINE + 2 + 6


def _lines(scene: Scene, width: int, height: int) -> Lines:
    results = scene.survey.results
    if not results or height <= 0:
        return []
    name = _name_width(width)
    look = scene.look
    titles = [("speedup", figures_row.SPEEDUP), ("SQNR", figures_row.SQNR + 2), ("size", figures_row.SIZE)]
    titles += [("cosine", figures_row.COSINE), ("ago", 6)]
    head: Text = look.fitted(look.own("engine", QUIET), name)
    for title, columns in titles:
        if head.cell_len + 2 + columns <= width:
            head = joined(head, "  ", look.fitted(look.own(title, QUIET), columns, right=True))
    lines = [engine_line(look, engine, width, scene.now, name=name) for _, engine in results[: height - 1]]
    return [head, *lines]


def _name_width(width: int) -> int:
    """What the figures leave over; where that is too little, the last figures are left out."""
    room = width - _FIGURES - _MORE
    return room if room >= 16 else max(min(width - _FIGURES, 30), 12)


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "last results")


RESULTS = Panel(_heading, _lines, least=2, most=14)
