"""The list of subjects. Only the rows in view are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from trtd.status import SubjectStatus
from trtd.ui.dashboard.arrange import longest_name
from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined
from trtd.ui.dashboard.facts import changed_at, main_engine, precisions, situation, title
from trtd.ui.dashboard.panels import figures_row
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.progress import build_cell
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, CYAN, QUIET, WORDS, group_of, phase_sign, phase_style
from trtd.ui.dashboard.times import age
from trtd.ui.dashboard.view import window
from trtd.ui.tables import Cell, Column, fitting

_GAP = 2
_MARGIN = 3  # the mark of the selection, the sign of the phase, a blank
_NARROWEST = 10
_SITUATION, _SHORT_SITUATION = 30, 14
_PHASE_FROM = 60  # columns

Write = Callable[[Scene, SubjectStatus, int], Text]


@dataclass(frozen=True)
class Field:
    """A column: its rank says how soon it is left out, highest first, 0 never."""

    title: str
    width: int
    rank: int
    write: Write
    right: bool = False


def _fields(scene: Scene, width: int) -> list[Field]:
    name = max(_NARROWEST, min(longest_name(scene.rows), width // 4))
    if width < _PHASE_FROM:  # the sign tells the phase
        return [Field("name", min(name, max(width // 2, 1)), 0, _name), Field("", _SHORT_SITUATION, 1, _situation)]
    prioritized = any(subject.priority for subject in scene.rows[:2000])
    fields = [
        Field("name", name, 0, _name),
        Field("phase", 8, 2, lambda s, subject, _: s.look.own(subject.phase, phase_style(subject.phase))),
        Field("", _SITUATION, 1, _situation),
        Field("target", 15, 10, lambda s, subject, _: s.look.foreign(subject.target, QUIET)),
        Field("prec.", 8, 7, lambda s, subject, _: s.look.foreign(precisions(subject), QUIET)),
        Field("cosine", figures_row.COSINE, 8, lambda s, x, _: figures_row.cosine(s.look, main_engine(x)), True),
        Field("SQNR dB", figures_row.SQNR, 4, lambda s, x, _: figures_row.sqnr(s.look, main_engine(x)), True),
        Field("speedup", figures_row.SPEEDUP, 3, lambda s, x, _: figures_row.speedup(s.look, main_engine(x)), True),
        Field("size", figures_row.SIZE, 6, lambda s, x, _: figures_row.size(s.look, main_engine(x)), True),
        Field("changed", 7, 5, _changed, True),
    ]
    if prioritized:
        fields.insert(4, Field("prio", 4, 9, lambda s, x, _: s.look.own(f"{x.priority or ''}", QUIET), True))
    return fields


def _shown(scene: Scene, width: int) -> list[Field]:
    """The columns that fit; what they leave over goes to what the subject is at."""
    fields = _fields(scene, width)
    columns = [Column(f.title, (Cell("0" * f.width),), f.rank) for f in fields]
    kept, _ = fitting(columns, width - _MARGIN, _GAP)
    shown = [f for f, column in zip(fields, columns, strict=True) if column in kept]
    spare = width - _MARGIN - sum(f.width for f in shown) - _GAP * (len(shown) - 1)
    stretched = "" if any(f.title == "" for f in shown) else "name"
    return [Field(f.title, f.width + spare, f.rank, f.write, f.right) if f.title == stretched else f for f in shown]


def _lines(scene: Scene, width: int, height: int) -> Lines:
    look, fields = scene.look, _shown(scene, width)
    if not scene.rows:
        return [look.prose(_nothing(scene), QUIET)] if height else []
    titles = [look.fitted(look.own(f.title, QUIET), f.width, right=f.right) for f in fields]
    head = [joined(" " * _MARGIN, *_spaced(titles))] if height >= 4 else []
    page = height - len(head)
    top = window(scene.view.top, scene.row, page, len(scene.rows))
    shown = scene.rows[top : top + max(page, 0)]
    return head + [_row(scene, subject, fields, top + at == scene.row) for at, subject in enumerate(shown)]


def _row(scene: Scene, subject: SubjectStatus, fields: list[Field], is_selected: bool) -> Text:
    look = scene.look
    mark = look.own("▌" if is_selected else " ", CYAN)
    sign = look.own(f"{phase_sign(subject.phase)} ", phase_style(subject.phase))
    cells = [look.fitted(f.write(scene, subject, f.width), f.width, right=f.right) for f in fields]
    line = joined(mark, sign, *_spaced(cells))
    return look.selected(line) if is_selected else line


def _spaced(cells: list[Text]) -> list[Text | str]:
    parts: list[Text | str] = []
    for cell in cells:
        parts += [" " * _GAP, cell] if parts else [cell]
    return parts


def _name(scene: Scene, subject: SubjectStatus, width: int) -> Text:
    return scene.look.ends(title(subject), width, "" if group_of(subject.phase) in ("ready", "paused") else BOLD)


def _situation(scene: Scene, subject: SubjectStatus, width: int) -> Text:
    if subject.phase == "building":
        return build_cell(scene, subject, width)
    quiet = group_of(subject.phase) in ("ready", "paused", "waiting")
    return scene.look.prose(situation(subject, scene.now), QUIET if quiet else "")


def _changed(scene: Scene, subject: SubjectStatus, width: int) -> Text:
    at = changed_at(subject)
    return scene.look.own(age(scene.now - at) if at else "", QUIET)


def _nothing(scene: Scene) -> str:
    if scene.snapshot.subjects:
        return "nothing matches; Esc lists everything again"
    registry = scene.snapshot.daemon.registry if scene.snapshot.daemon else scene.context.registry
    return f"no specs yet: copy one into {registry}/specs/" if registry else "no specs yet"


def _heading(scene: Scene) -> Heading:
    view, total, shown = scene.view, len(scene.snapshot.subjects), len(scene.rows)
    found = heading(scene.look, "subjects", total, f"by {view.sort}")
    if shown != total:
        found.title.append_text(scene.look.own(f" · {shown:,} listed", CYAN))
    if view.show != "all":
        found.title.append_text(scene.look.own(f" · only {WORDS[view.show]}", CYAN))
    if view.text:
        found.title.append_text(scene.look.prose(f" · /{view.text}", CYAN))
    return found


def page_of(height: int) -> int:
    """Rows that a list of ``height`` lines shows."""
    return max(height - (1 if height >= 4 else 0), 1)


SUBJECTS = Panel(_heading, _lines, least=4)
