"""What was published last, and how it did."""

from __future__ import annotations

from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined
from trtd.ui.dashboard.panels import figures_row
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.selected import LEAST_NAME, engine_line, engine_title
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import QUIET


def _lines(scene: Scene, width: int, height: int) -> Lines:
    look, results = scene.look, [engine for _, engine in scene.survey.results[: max(height - 1, 0)]]
    if not results:
        return []
    wanted = max(len("engine"), *(engine_title(look, engine).cell_len for engine in results))
    shown = figures_row.chosen(width - min(wanted, LEAST_NAME))
    head = look.fitted(look.own("engine", QUIET), min(wanted, width - figures_row.width_of(shown)))
    for figure in shown:
        title = look.fitted(look.own(figure.title, QUIET), figure.width, right=True)
        head = joined(head, " " * figures_row.GAP, title)
    return [head, *(engine_line(look, engine, width, scene.now, wanted) for engine in results)]


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "last results")


RESULTS = Panel(_heading, _lines, least=2, most=14)
