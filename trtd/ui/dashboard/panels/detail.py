"""One subject on the whole screen: its state, and below a chosen page: report, conditions, log, history."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text

from trtd.status import Condition, SubjectStatus, file_of
from trtd.ui.dashboard.blocks import Heading, Lines, blank, framed, joined, spread
from trtd.ui.dashboard.facts import title
from trtd.ui.dashboard.panels.events import history_lines
from trtd.ui.dashboard.panels.panel import inner
from trtd.ui.dashboard.panels.report import report_lines
from trtd.ui.dashboard.panels.selected import summary_lines
from trtd.ui.dashboard.scene import Detail, Scene
from trtd.ui.dashboard.theme import BOLD, CYAN, FRAME, GREEN, QUIET, RED
from trtd.ui.dashboard.times import age
from trtd.ui.dashboard.view import TABS, View

_NORMAL = {"SpecValid": True, "Settled": True, "Published": True, "Fresh": True, "Ready": True, "Stalled": False}


def detail_lines(scene: Scene, width: int, height: int, boxed: bool) -> tuple[Lines, View]:
    """Exactly ``height`` lines, and the view with what it is scrolled by set to what is possible."""
    look, view, subject = scene.look, scene.view, scene.opened
    room = inner(width, boxed)
    frame = 2 if boxed else 1
    if subject is None:
        gone = [look.own("This spec is gone. Esc leads back to the list.", QUIET)]
        head = Heading(look.short(view.opened or "", 60, BOLD), look.own(""))
        return framed(look, head, gone, width, height, boxed=boxed), replace(view, scroll=0)
    summary = [*_files(scene, subject, room), *summary_lines(scene, subject, room, most=4)]
    most = min(len(summary) + frame, max(height // 2, 0))
    if height < 12:
        most = 0
    head = Heading(look.short(title(subject), max(room - 30, 8), BOLD), look.own("Esc: back", FRAME))
    above = framed(look, head, summary, width, most, boxed=boxed)
    page = max(height - most - frame, 0)
    content = _content(scene, subject, room)
    limit = max(len(content) - page, 0)
    scroll = min(view.scroll, limit)
    first = limit - scroll if view.tab == "log" else scroll
    shown = content[first : first + page]
    below = framed(look, _tabs(scene, first, page, len(content)), shown, width, height - most, boxed=boxed)
    return above + below, replace(view, scroll=scroll, page=max(page, 1))


def _files(scene: Scene, subject: SubjectStatus, width: int) -> Lines:
    look = scene.look
    parts = [f"specs/{file_of(subject.key)}"]
    if subject.priority:
        parts.append(f"priority {subject.priority}")
    if subject.failures:
        parts.append(f"{subject.failures} failure{'s' * (subject.failures > 1)} in a row")
    return [look.fitted(look.prose(" · ".join(parts), QUIET), width)]


def _tabs(scene: Scene, first: int, page: int, count: int) -> Heading:
    look = scene.look
    title = Text(no_wrap=True, end="")
    for number, tab in enumerate(TABS, 1):
        style = f"{BOLD} {CYAN} underline" if tab == scene.view.tab else FRAME
        title.append("  " if title else "").append_text(look.own(f"{number} {tab}", style))
    note = f"{first + 1}–{min(first + page, count)} of {count}" if count > page > 0 else ""
    return Heading(title, look.own(note.replace("–", "-") if not look.unicode else note, FRAME))


def _content(scene: Scene, subject: SubjectStatus, width: int) -> Lines:
    detail = scene.context.detail
    if detail is None or detail.key != subject.key:
        detail = Detail(subject.key)
    if scene.view.tab == "conditions":
        return _conditions(scene, subject, width)
    if scene.view.tab == "log":
        return _log(scene, subject, detail, width)
    if scene.view.tab == "history":
        events = detail.history
        if events is None:
            events = tuple(event for event in scene.snapshot.events if event.subject == subject.key)
        return history_lines(scene, events, width) or [scene.look.own("nothing that is still remembered", QUIET)]
    return _report(scene, subject, detail, width)


def _report(scene: Scene, subject: SubjectStatus, detail: Detail, width: int) -> Lines:
    look = scene.look
    lines = look.folded(detail.trouble, width, RED) if detail.trouble else []
    if not detail.reports:
        return lines or [look.own("no report: none of its engines has been verified", QUIET)]
    index = scene.view.choice % len(detail.reports)
    of, report = detail.reports[index]
    note = f"{index + 1} of {len(detail.reports)}, e: the next" if len(detail.reports) > 1 else ""
    return lines + report_lines(look, of, report, width, note)


def _log(scene: Scene, subject: SubjectStatus, detail: Detail, width: int) -> Lines:
    look = scene.look
    if not detail.log:
        return [look.own("no log yet", QUIET)]
    lines = [look.prose(subject.log, QUIET), blank()] if subject.log else []
    for text in detail.log:
        lines += look.folded(text, width, sign=False)
    return lines


def _conditions(scene: Scene, subject: SubjectStatus, width: int) -> Lines:
    look, lines = scene.look, list[Text]()
    for condition in subject.conditions:
        sign, style = _state(condition)
        name = look.fitted(look.foreign(condition.type, BOLD), 11)
        reason = look.foreign(condition.reason)
        since = look.own(f"for {age(scene.now - condition.since)}", QUIET)
        lines.append(spread(look, joined(look.own(f"{sign} ", style), name, reason), since, width))
        lines += [joined(" " * 13, line) for line in look.folded(condition.message, max(width - 13, 10), QUIET)]
    return lines or [look.own("nothing is known of it yet", QUIET)]


def _state(condition: Condition) -> tuple[str, str]:
    """A tick where it is as it should be; Building is neither good nor bad."""
    if condition.status is None:
        return "?", QUIET
    if condition.type not in _NORMAL:
        return ("●", CYAN) if condition.status else ("○", QUIET)
    if condition.status == _NORMAL[condition.type]:
        return "✓", GREEN
    return "✗", RED if condition.type in ("SpecValid", "Stalled") else "yellow"
