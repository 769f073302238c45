"""Which subjects are listed, in which order, and what there is of each kind. Found once for each list of subjects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from trtd.status import EngineStatus, SubjectStatus
from trtd.ui.dashboard.facts import changed_at, main_engine
from trtd.ui.dashboard.theme import GROUPS, RANK, Group, group_of
from trtd.ui.dashboard.view import Show, Sort, View

Subjects = tuple[SubjectStatus, ...]
Result = TypeVar("Result")

_KEPT = 8
_RESULTS = 100
_AGES = 1e18


@dataclass(frozen=True)
class Survey:
    """What there is.

    Attributes:
        counts: subjects in each group.
        phases: subjects in each phase.
        needs: those that need a person; what changed last comes first.
        building: in the order in which they were started.
        queue: in the order in which they will be started; each device takes the first that is for it.
        later: those that will be tried again, soonest first, and those that settle.
        results: what is published, newest first, with its subject.
    """

    counts: dict[Group, int]
    phases: Counter[str]
    by_key: dict[str, SubjectStatus]
    needs: Subjects
    building: Subjects
    queue: Subjects
    later: Subjects
    results: tuple[tuple[SubjectStatus, EngineStatus], ...]


_memory: list[tuple[Subjects, tuple[Any, ...], Any]] = []


def _remembered(subjects: Subjects, what: tuple[Any, ...], find: Callable[[], Result]) -> Result:
    """``find()``, remembered for this very tuple of subjects: comparing thousands of them would take longer."""
    for place, (known, question, answer) in enumerate(_memory):
        if known is subjects and question == what:
            _memory.insert(0, _memory.pop(place))
            return answer  # type: ignore[no-any-return]
    found = find()
    _memory.insert(0, (subjects, what, found))
    del _memory[_KEPT:]
    return found


def survey(subjects: Subjects) -> Survey:
    return _remembered(subjects, ("survey",), lambda: _survey(subjects))


def arranged(subjects: Subjects, view: View) -> Subjects:
    """Those that the view lists, in its order."""
    text = view.text.casefold()
    return _remembered(subjects, ("rows", text, view.show, view.sort), lambda: _rows(subjects, text, view))


def row_of(rows: Subjects, view: View) -> int:
    """The row of the selection; 0 if there is none to select."""
    if view.selected is not None:
        places: dict[str, int] = _remembered(rows, ("places",), lambda: {s.key: row for row, s in enumerate(rows)})
        if (place := places.get(view.selected)) is not None:
            return place
    return max(0, min(view.index, len(rows) - 1))


def longest_name(rows: Subjects) -> int:
    """Columns of the longest name, about: characters that are wide or written out count as one here."""
    return _remembered(rows, ("longest",), lambda: max((len(s.name) for s in rows), default=0))


def _survey(subjects: Subjects) -> Survey:
    phases = Counter(s.phase for s in subjects)
    counts: Counter[Group] = Counter()
    for phase, count in phases.items():
        counts[group_of(phase)] += count
    dated = [(engine.published_at or 0.0, s, engine) for s in subjects for engine in s.engines if engine.version]
    dated.sort(key=lambda entry: entry[0], reverse=True)
    return Survey(
        counts={group: counts[group] for group in GROUPS},
        phases=Counter({str(phase): count for phase, count in phases.items()}),
        by_key={s.key: s for s in subjects},
        needs=tuple(sorted((s for s in subjects if group_of(s.phase) == "needs"), key=_by_phase)),
        building=tuple(sorted((s for s in subjects if s.phase == "building"), key=_by_phase)),
        queue=tuple(sorted((s for s in subjects if s.phase == "queued"), key=_by_phase)),
        later=tuple(
            sorted(
                (s for s in subjects if group_of(s.phase) == "waiting" and s.phase != "queued"),
                key=lambda s: (s.next_try_at if s.next_try_at is not None else math.inf, s.name),
            )
        ),
        results=tuple((s, engine) for _, s, engine in dated[:_RESULTS]),
    )


def _rows(subjects: Subjects, text: str, view: View) -> Subjects:
    words = text.split()
    rows = [s for s in subjects if _is_shown(s, view.show) and all(word in _searched(s) for word in words)]
    if view.sort != "name":  # they come ordered by name
        rows.sort(key=_ORDERS[view.sort])
    return tuple(rows)


def _is_shown(subject: SubjectStatus, show: Show) -> bool:
    return show == "all" or group_of(subject.phase) == show


def _searched(subject: SubjectStatus) -> str:
    engines = " ".join(f"{engine.name} {engine.precision}" for engine in subject.engines)
    return f"{subject.name} {subject.key} {subject.target} {subject.phase} {engines}".casefold()


def _by_phase(subject: SubjectStatus) -> tuple[int, float, float, str]:
    """What needs a person first; within a phase, builds and the queue in the order of their turns."""
    first = second = 0.0
    if subject.phase == "building":
        first = subject.started_at or 0.0
    elif subject.phase == "queued":
        first, second = -subject.priority, subject.queued_at or 0.0
    elif subject.phase in ("backoff", "waiting"):
        first = subject.next_try_at if subject.next_try_at is not None else _AGES
    elif subject.phase not in ("ready", "paused"):
        first = -changed_at(subject)
    return RANK.get(subject.phase, len(RANK)), first, second, subject.name


def _by_speedup(subject: SubjectStatus) -> tuple[float, str]:
    """Slowest first; what was not measured last."""
    engine = main_engine(subject)
    return _order(engine.speedup if engine else None), subject.name


def _by_fidelity(subject: SubjectStatus) -> tuple[float, str]:
    """Worst first; what was not measured last."""
    engine = main_engine(subject)
    return _order(engine.sqnr_db if engine else None), subject.name


def _order(value: float | None) -> float:
    if value is None:
        return math.inf
    return -math.inf if math.isnan(value) else min(value, 1e300)


_ORDERS: dict[Sort, Callable[[SubjectStatus], Any]] = {
    "phase": _by_phase,
    "name": lambda s: (s.name, s.key),
    "priority": lambda s: (-s.priority, s.name),
    "last change": lambda s: (-changed_at(s), s.name),
    "speedup": _by_speedup,
    "fidelity": _by_fidelity,
}
