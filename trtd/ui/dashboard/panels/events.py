"""What happened lately, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from rich.text import Text

from trtd.status import Event
from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined
from trtd.ui.dashboard.facts import one_line
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, QUIET, event_sign
from trtd.ui.dashboard.times import moment

_LOUD = ("failed", "stale", "published")


def event_line(scene: Scene, event: Event, width: int) -> Text:
    look = scene.look
    sign, style = event_sign(event.kind)
    loud = event.kind in _LOUD
    name = look.fitted(
        look.foreign((event.name if event.name.strip() else event.subject) or "daemon", BOLD if loud else ""),
        max(8, min(22, width // 4)),
    )
    text = look.prose(one_line(event.text), "" if loud else QUIET)
    time = look.own(f"{moment(event.at, scene.now)} ", QUIET)
    return look.fitted(joined(time, look.own(f"{sign} ", style), name, "  ", text), width)


def history_lines(scene: Scene, events: Iterable[Event], width: int) -> Lines:
    """Whole texts, folded, newest first: ``events`` come newest last."""
    look, lines = scene.look, list[Text]()
    for event in reversed(list(events)):
        sign, style = event_sign(event.kind)
        head = joined(
            look.own(f"{moment(event.at, scene.now)} ", QUIET),
            look.own(f"{sign} ", style),
            look.fitted(look.foreign(event.kind, style), 11),
        )
        folded = look.folded(event.text, max(width - head.cell_len, 10))
        lines.append(joined(head, folded[0]))
        lines += [joined(" " * head.cell_len, line) for line in folded[1:]]
    return lines


def _lines(scene: Scene, width: int, height: int) -> Lines:
    events = islice(reversed(scene.snapshot.events), max(height, 0))
    return [event_line(scene, event, width) for event in events]


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "events")


EVENTS = Panel(_heading, _lines, least=2)
