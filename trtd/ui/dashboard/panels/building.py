"""The builds that run."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from trtd.ui.dashboard.blocks import Heading, Lines, blank, heading, joined
from trtd.ui.dashboard.facts import title
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.progress import build_cell, build_lines
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, CYAN, FRAME


def _lines(scene: Scene, width: int, height: int) -> Lines:
    """As many builds as fit whole; where not all do, in two lines each."""
    lines: list[Text] = []
    for subject in scene.survey.building[:_MOST]:
        lines += [*([blank()] if lines else []), *build_lines(scene, subject, width)]
    if len(lines) <= height:
        return lines
    short = [
        line for subject in scene.survey.building[: height // 2] for line in build_lines(scene, subject, width)[:2]
    ]
    return short[:height]


def _brief(scene: Scene, width: int, height: int) -> Lines:
    """One line for each build."""
    look, lines = scene.look, list[Text]()
    builds = scene.survey.building[: max(height, 0)]
    name = min(max((cell_len(look.literal(title(subject))) for subject in builds), default=0), max(width // 4, 8))
    for subject in builds:
        head = look.fitted(look.foreign(title(subject), BOLD), name)
        cell = build_cell(scene, subject, max(width - name - 4, 0))
        lines.append(joined(look.own("● ", CYAN), head, "  ", cell))
    return lines


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "building", len(scene.survey.building))


def _brief_heading(scene: Scene) -> Heading:
    """With what comes next, where there is no room for the queue."""
    look, queue = scene.look, scene.survey.queue
    found = _heading(scene)
    if not queue:
        return found
    note = joined(look.own(f"{len(queue):,} queued, next: ", FRAME), look.ends(title(queue[0]), 24, FRAME))
    return Heading(found.title, note)


_MOST = 30
BUILDING = Panel(_heading, _lines, least=2, most=11)
BUILDING_BRIEF = Panel(_brief_heading, _brief, least=1, most=2)
