"""The selected subject in short: what it is at, what is wrong, what to do, what is published."""

from __future__ import annotations

from rich.text import Text

from trtd.status import EngineStatus, SubjectStatus
from trtd.ui.dashboard.blocks import Heading, Lines, joined, spread
from trtd.ui.dashboard.facts import changed_at, condition, next_step, next_try, one_line, situation, title
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.panels import figures_row
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.progress import stage_lines
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, FRAME, QUIET, phase_sign, phase_style
from trtd.ui.dashboard.times import age

_MESSAGE_LINES = 3
LEAST_NAME = 20  # what figures are left out for


def summary_lines(scene: Scene, subject: SubjectStatus, width: int, most: int = _MESSAGE_LINES) -> Lines:
    """State, problem, next step and engines. ``most``: lines of the message, and of the hint."""
    look = scene.look
    lines = [_state(scene, subject, width)]
    if subject.phase == "building":
        lines += stage_lines(scene, subject, width)
    lines += problem_lines(look, subject, width, most)
    if subject.phase in ("queued", "stale", "settling") and not subject.problem:
        lines += look.folded(situation(subject, scene.now), width, most=most)
    if subject.phase == "building" and subject.reasons:
        lines += look.folded(f"because: {one_line('; '.join(subject.reasons))}", width, QUIET, most=1)
    return lines + engine_lines(look, subject, width, scene.now)


def problem_lines(look: Look, subject: SubjectStatus, width: int, most: int) -> Lines:
    """What failed, where, and what to do next."""
    lines: Lines = []
    if problem := subject.problem:
        where = f"{problem.where}: " if problem.where and problem.where not in problem.message else ""
        lines += look.folded(f"{where}{problem.message}", width, most=most)
    if step := next_step(subject):
        lines += step_lines(look, step, width, most)
    return lines


def step_lines(look: Look, step: str, width: int, most: int) -> Lines:
    arrow = look.own("→ ", BOLD)
    folded = look.folded(step, width - arrow.cell_len, most=most)
    heads = [arrow] + [look.own(" " * arrow.cell_len)] * (len(folded) - 1)
    return [joined(head, line) for head, line in zip(heads, folded, strict=True)]


def engine_lines(look: Look, subject: SubjectStatus, width: int, now: float) -> Lines:
    """One line for each engine: what is live, and how it did."""
    titles = [engine_title(look, engine) for engine in subject.engines]
    name = max((title.cell_len for title in titles), default=0)
    return [engine_line(look, engine, width, now, name) for engine in subject.engines]


def engine_title(look: Look, engine: EngineStatus) -> Text:
    """``digits-int8@3``, ``digits-int8 not published``."""
    version = " not published" if engine.version is None else f"@{engine.version}"
    return joined(look.foreign(engine.name), look.own(version, QUIET))


def engine_line(look: Look, engine: EngineStatus, width: int, now: float, name: int) -> Text:
    """``name``: columns that engines' names would like; they get what the figures leave over."""
    shown = figures_row.chosen(width - min(name, LEAST_NAME))
    if engine.version is None and engine.sqnr_db is None:
        shown = ()
    line = look.fitted(engine_title(look, engine), min(name, max(width - figures_row.width_of(shown), 0)))
    for figure in shown:
        cell = look.fitted(figure.write(look, engine, now), figure.width, right=True)
        line = joined(line, " " * figures_row.GAP, cell)
    return line


def _state(scene: Scene, subject: SubjectStatus, width: int) -> Text:
    look, style = scene.look, phase_style(subject.phase)
    words = look.own(f"{phase_sign(subject.phase)} {subject.phase}", style)
    ready = condition(subject, "Ready")
    at = changed_at(subject)
    said = [f"for {age(scene.now - at)}" if at and subject.phase not in ("ready", "building") else ""]
    said.append(next_try(subject, scene.now))
    if subject.phase == "ready" and ready is not None:
        said.append(f"for {age(scene.now - ready.since)}")
    text = " · ".join(filter(None, said))
    left = joined(words, look.own(f" {text}" if text else "", QUIET))
    return spread(look, left, look.foreign(subject.target, QUIET), width)


def _lines(scene: Scene, width: int, height: int) -> Lines:
    """Where room is short, message and hint are cut before the engines are left out."""
    subject, lines = scene.selected, list[Text]()
    for most in range(_MESSAGE_LINES, 0, -1):
        lines = summary_lines(scene, subject, width, most) if subject is not None else []
        if len(lines) <= height:
            break
    return lines[:height]


def _heading(scene: Scene) -> Heading:
    subject, look = scene.selected, scene.look
    if subject is None:
        return Heading(look.own("selected", BOLD), look.own(""))
    return Heading(look.short(title(subject), 40, BOLD), look.own("Enter opens it", FRAME))


SELECTED = Panel(_heading, _lines, least=4, most=12)
