"""What the page of a subject shows beside its status: reports, log, history. Read when it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trtd.errors import TrtdError
from trtd.status import Event, Snapshot, SubjectStatus
from trtd.ui.dashboard.arrange import survey
from trtd.ui.dashboard.scene import Detail
from trtd.ui.dashboard.view import View

if TYPE_CHECKING:
    from trtd.verify.report import Report

ReadReport = Callable[[str, "int | None"], "Report | None"]
ReadLog = Callable[[SubjectStatus], list[str]]
ReadHistory = Callable[[str], tuple[Event, ...]]

_LOG_PERIOD_S = 1.0


class Loader:
    """Keeps what was read until it may have changed.

    Args:
        report: of an engine's version; with ``None``, of its last build that was not published, if there is one.
        log_tail: last lines of a subject's log.
        history: events of a subject, newest last; ``None``: those of the snapshot do.
    """

    def __init__(self, report: ReadReport, log_tail: ReadLog, history: ReadHistory | None) -> None:
        self._report = report
        self._log_tail = log_tail
        self._history = history
        self._detail: Detail | None = None
        self._subject: SubjectStatus | None = None
        self._log_due_s = 0.0
        self._last_event: Event | None = None

    def detail(self, snapshot: Snapshot, view: View, mono_s: float) -> Detail | None:
        """What is known of the opened subject; ``None`` if none is open."""
        subject = survey(snapshot.subjects).by_key.get(view.opened) if view.opened is not None else None
        if subject is None:
            self._detail = self._subject = None
            return None
        detail = self._detail
        if detail is None or detail.key != subject.key:
            detail = Detail(subject.key)
            self._subject, self._last_event, self._log_due_s = None, None, 0.0
        if subject is not self._subject:
            detail = self._with_reports(detail, subject)
            self._subject, self._log_due_s = subject, 0.0
        if view.tab == "log" and mono_s >= self._log_due_s:
            detail = self._with_log(detail, subject)
            self._log_due_s = mono_s + _LOG_PERIOD_S
        last = snapshot.events[-1] if snapshot.events else None
        if self._history is not None and view.tab == "history" and (last is not self._last_event or not detail.history):
            try:
                detail = replace(detail, history=self._history(subject.key))
            except (TrtdError, OSError):
                detail = replace(detail, history=None)
            self._last_event = last
        self._detail = detail
        return detail

    def _with_reports(self, detail: Detail, subject: SubjectStatus) -> Detail:
        reports: list[tuple[str, Report]] = []
        troubles: list[str] = []
        missed = subject.problem is not None and subject.problem.code == "gate"
        wanted: list[tuple[str, str, int | None]] = []
        if missed:
            wanted += [(f"{e.name}, not published", e.name, None) for e in subject.engines]
        wanted += [(f"{e.name}@{e.version}", e.name, e.version) for e in subject.engines if e.version is not None]
        for of, name, version in wanted:
            try:
                report = self._report(name, version)
            except (TrtdError, OSError) as error:
                troubles.append(f"the report of {of} cannot be read: {error}")
                continue
            if report is not None:
                reports.append((of, report))
        return replace(detail, reports=tuple(reports), trouble="\n".join(troubles))

    def _with_log(self, detail: Detail, subject: SubjectStatus) -> Detail:
        try:
            return replace(detail, log=tuple(self._log_tail(subject)))
        except (TrtdError, OSError) as error:
            return replace(detail, log=(f"the log cannot be read: {error}",))
