"""What a picture is drawn from: the snapshot, the view, the terminal, and what a detail page has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trtd.status import Event, Snapshot, StageStatus, SubjectStatus
from trtd.ui.dashboard.arrange import Subjects, Survey, arranged, row_of, survey
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.pace import Pace
from trtd.ui.dashboard.view import View

if TYPE_CHECKING:
    from trtd.verify.report import Report


@dataclass(frozen=True)
class Detail:
    """What was loaded for the opened subject.

    Attributes:
        key: of the subject.
        reports: each with what it is of: ``digits-int8@3``, or ``digits-int8, not published``.
        trouble: why a report or the log could not be read.
        log: its last lines.
        history: events of this subject, newest last; ``None``: those of the snapshot.
    """

    key: str
    reports: tuple[tuple[str, Report], ...] = ()
    trouble: str = ""
    log: tuple[str, ...] = ()
    history: tuple[Event, ...] | None = None


@dataclass(frozen=True)
class Context:
    """What is beside the snapshot.

    Attributes:
        registry: its folder, for the banner where no daemon has ever run.
        trouble: why the snapshot is not of now, if it could not be read.
    """

    look: Look = field(default_factory=Look)
    registry: str = ""
    trouble: str = ""
    pace: Pace = field(default_factory=lambda: Pace({}))
    detail: Detail | None = None


@dataclass(frozen=True)
class Scene:
    """Everything that panels draw from. ``rows`` are the listed subjects, ``row`` is the selected one's place."""

    snapshot: Snapshot
    view: View
    now: float
    context: Context
    survey: Survey
    rows: Subjects
    row: int

    @classmethod
    def of(cls, snapshot: Snapshot, view: View, now: float, context: Context) -> Scene:
        rows = arranged(snapshot.subjects, view)
        return cls(snapshot, view, now, context, survey(snapshot.subjects), rows, row_of(rows, view))

    @property
    def look(self) -> Look:
        return self.context.look

    @property
    def live(self) -> Mapping[str, StageStatus]:
        return self.snapshot.live or {}

    @property
    def selected(self) -> SubjectStatus | None:
        return self.rows[self.row] if self.rows else None

    @property
    def opened(self) -> SubjectStatus | None:
        """The subject whose detail is shown; ``None`` if its spec is gone."""
        return self.survey.by_key.get(self.view.opened) if self.view.opened is not None else None
