"""The whole screen at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from trtd.status import Snapshot
from trtd.ui.dashboard.blocks import Lines, beside, block, joined
from trtd.ui.dashboard.panels.building import BUILDING, BUILDING_BRIEF
from trtd.ui.dashboard.panels.detail import detail_lines
from trtd.ui.dashboard.panels.devices import DEVICES
from trtd.ui.dashboard.panels.events import EVENTS
from trtd.ui.dashboard.panels.footer import footer_line
from trtd.ui.dashboard.panels.header import banner_lines, header_lines
from trtd.ui.dashboard.panels.help import help_lines
from trtd.ui.dashboard.panels.needs import NEEDS
from trtd.ui.dashboard.panels.panel import column, panel_lines
from trtd.ui.dashboard.panels.queue import QUEUE
from trtd.ui.dashboard.panels.results import RESULTS
from trtd.ui.dashboard.panels.selected import SELECTED
from trtd.ui.dashboard.panels.subjects import SUBJECTS, page_of
from trtd.ui.dashboard.scene import Context, Scene
from trtd.ui.dashboard.view import View, window

_WIDE, _WIDE_LINES = 150, 34
_MEDIUM, _MEDIUM_LINES = 100, 28
_PLAIN = Context()


@dataclass(frozen=True)
class Picture:
    """Lines of the size of the screen; renderable by rich.

    Attributes:
        view: what was drawn, with the selection, the window and the scrolling as they came out: keys act on this.
    """

    lines: tuple[Text, ...]
    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            yield from line.render(console)
            yield Segment.line()


def draw(snapshot: Snapshot, view: View, size: tuple[int, int], now: float, context: Context = _PLAIN) -> Picture:
    """What the screen shows. Pure: equal arguments give equal pictures.

    Args:
        size: columns and lines; any, however small.
        now: seconds since the epoch; times are told relative to it.
        context: what is beside the snapshot.
    """
    width, height = max(size[0], 1), max(size[1], 1)
    scene = Scene.of(snapshot, view, now, context)
    head = header_lines(scene, width, 2 if height >= 14 else 1) if height >= 3 else []
    if height >= 8:
        head += banner_lines(scene, width)
    foot = [footer_line(scene, width)] if height >= 8 or (view.typing and height >= 2) else []
    room = height - len(head) - len(foot)
    body, shown = _body(scene, width, room)
    # Joined, because rich ignores the style of a text that has no spans when it is rendered alone.
    lines = tuple(joined(line) for line in block(scene.look, [*head, *body, *foot], width, height))
    return Picture(lines, shown)


def _body(scene: Scene, width: int, height: int) -> tuple[Lines, View]:
    boxed = width >= _MEDIUM and height >= _MEDIUM_LINES - 3
    if scene.view.help:
        return help_lines(scene, width, height, boxed), scene.view
    if scene.view.opened is not None:
        return detail_lines(scene, width, height, boxed)
    if boxed and width >= _WIDE and height >= _WIDE_LINES - 3:
        lines, page = _wide(scene, width, height)
    elif boxed:
        lines, page = _medium(scene, width, height)
    else:
        lines, page = _narrow(scene, width, height)
    return lines, _settled(scene, page)


def _settled(scene: Scene, page: int) -> View:
    """The view as it was drawn. A selection that nobody made stays at the top, whoever comes to be there."""
    view, rows = scene.view, scene.rows
    selected = view.selected
    if selected is not None and rows:
        selected = rows[scene.row].key
    top = window(view.top, scene.row, page, len(rows))
    return replace(view, selected=selected, index=scene.row, top=top, page=page)


def _wide(scene: Scene, width: int, height: int) -> tuple[Lines, int]:
    """The list and the events at the left; what is behind them at the right."""
    right = max(58, min(84, width * 2 // 5))
    left = width - right
    list_height = _list_height(scene, height, least_below=height // 4)
    lines = panel_lines(scene, SUBJECTS, left, list_height, True)
    lines += panel_lines(scene, EVENTS, left, height - list_height, True)
    panels = (SELECTED, NEEDS, BUILDING, DEVICES, QUEUE, RESULTS)
    return beside(lines, column(scene, panels, right, height, True), 0), page_of(list_height - 2)


def _medium(scene: Scene, width: int, height: int) -> tuple[Lines, int]:
    """The list above, two columns below."""
    list_height = _list_height(scene, height, least_below=min(20, height * 5 // 9))
    left = width // 2
    below = height - list_height
    lines = panel_lines(scene, SUBJECTS, width, list_height, True)
    lines += beside(
        column(scene, (SELECTED, BUILDING, RESULTS), left, below, True),
        column(scene, (DEVICES, QUEUE, EVENTS), width - left, below, True),
        0,
    )
    return lines, page_of(list_height - 2)


def _narrow(scene: Scene, width: int, height: int) -> tuple[Lines, int]:
    """The list; below it the selected subject, what is being built, and the events: as far as there is room.

    Their heights are the same whatever is selected, so that selecting moves nothing.
    """
    everything = height >= 18 and width >= 30
    selected = (6 + max(height - 24, 0) // 6 if everything else 5 if height >= 12 else 0) if scene.rows else 0
    builds = 1 + min(len(scene.survey.building), BUILDING_BRIEF.most) if everything and scene.survey.building else 0
    events = max(3, height // 5) if everything and scene.snapshot.events else 0
    room = height - selected
    least_below = builds + events
    list_height = room if not least_below else min(max(len(scene.snapshot.subjects), 3) + 2, room - least_below)
    spare = room - list_height - least_below
    panels = [panel for panel, given in ((BUILDING_BRIEF, builds), (EVENTS, events)) if given]
    for panel, needed in (
        (RESULTS, 4),
        (DEVICES, 2 + len(scene.snapshot.daemon.devices if scene.snapshot.daemon else ())),
    ):
        if panels and spare >= needed:
            panels.insert(len(panels) - 1, panel)
            spare -= needed
    lines = panel_lines(scene, SUBJECTS, width, list_height, False)
    if selected:
        lines += panel_lines(scene, SELECTED, width, selected, False)
    if panels:
        lines += column(scene, panels, width, room - list_height, False)
    return lines, page_of(list_height - 1)


def _list_height(scene: Scene, height: int, least_below: int) -> int:
    """Room for all subjects, listed or not (typing a filter must not move things), of what ``least_below`` leaves."""
    wanted = max(len(scene.snapshot.subjects), 5) + 3
    return min(wanted, height - least_below)
