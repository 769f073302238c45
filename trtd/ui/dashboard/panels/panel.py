"""What a panel is, and how panels share a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtd.ui.dashboard.blocks import Heading, Lines, framed
from trtd.ui.dashboard.scene import Scene


@dataclass(frozen=True)
class Panel:
    """A titled part of the screen.

    Attributes:
        lines: of a width, as many as there are to show, but not more than a height.
        least: lines below which it is not worth showing.
        most: lines above which it asks for no more.
    """

    heading: Callable[[Scene], Heading]
    lines: Callable[[Scene, int, int], Lines]
    least: int = 1
    most: int = 1000


def inner(width: int, boxed: bool) -> int:
    """Columns that a panel of ``width`` has for its lines."""
    return max(width - 4 if boxed else width, 0)


def panel_lines(scene: Scene, panel: Panel, width: int, height: int, boxed: bool) -> Lines:
    lines = panel.lines(scene, inner(width, boxed), max(height - (2 if boxed else 1), 0))
    return framed(scene.look, panel.heading(scene), lines, width, height, boxed=boxed)


def column(scene: Scene, panels: Sequence[Panel], width: int, height: int, boxed: bool) -> Lines:
    """Panels one above the other, in exactly this size.

    Those with nothing to tell are left out. The first ones get what they want before the later ones get more than their
    least; what is left over at the end goes to the last.
    """
    frame = 2 if boxed else 1
    wanted = [len(panel.lines(scene, inner(width, boxed), min(height, panel.most))) for panel in panels]
    heights = [0] * len(panels)
    free = height
    for index, panel in enumerate(panels):
        least = min(panel.least, wanted[index]) + frame
        if wanted[index] and least <= free:
            heights[index], free = least, free - least
    for index, lines in enumerate(wanted):
        if heights[index]:
            more = min(lines + frame - heights[index], free)
            heights[index], free = heights[index] + more, free - more
    shown = [index for index, given in enumerate(heights) if given]
    if not shown:
        shown = [len(panels) - 1]
    heights[shown[-1]] += free
    return [line for index in shown for line in panel_lines(scene, panels[index], width, heights[index], boxed)]
