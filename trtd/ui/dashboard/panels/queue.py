"""What waits for its turn, in the order of the turns, and what will be tried again."""

from __future__ import annotations

from rich.text import Text

from trtd.status import SubjectStatus
from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined
from trtd.ui.dashboard.facts import situation, title
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import QUIET, YELLOW, phase_sign


def _lines(scene: Scene, width: int, height: int) -> Lines:
    queue, later = scene.survey.queue, scene.survey.later
    # Both kinds are seen, however long one is.
    queued = queue[: max(height - min(len(later), height // 2), 0)]
    lines = [_line(scene, subject, f"{place}.", width) for place, subject in enumerate(queued, 1)]
    waiting = later[: max(height - len(lines), 0)]
    return lines + [_line(scene, subject, phase_sign(subject.phase), width) for subject in waiting]


def _line(scene: Scene, subject: SubjectStatus, mark: str, width: int) -> Text:
    look = scene.look
    name = look.fitted(look.foreign(title(subject)), max(12, min(28, width // 3)))
    priority = f"priority {subject.priority} · " if subject.priority and subject.phase == "queued" else ""
    text = look.prose(priority + situation(subject, scene.now), QUIET)
    head = look.own(mark.rjust(2), YELLOW)
    return look.fitted(joined(head, " ", name, "  ", text), width)


def _heading(scene: Scene) -> Heading:
    queue, later = len(scene.survey.queue), len(scene.survey.later)
    title = "queue" if queue else "later"
    note = f"{later:,} later" if queue and later else ""
    return heading(scene.look, title, queue or later, note)


QUEUE = Panel(_heading, _lines, least=1, most=8)
