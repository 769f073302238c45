"""The builds that run."""

from __future__ import annotations

from rich.text import Text

from trtd.ui.dashboard.blocks import Heading, Lines, blank, heading
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.progress import build_lines
from trtd.ui.dashboard.scene import Scene


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


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "building", len(scene.survey.building))


_MOST = 30
BUILDING = Panel(_heading, _lines, least=2, most=11)
