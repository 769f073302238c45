"""How many there are of what: subjects by phase, engines by state, what became of a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trtd.daemon.messages import Outcome
from trtd.status import SubjectStatus

ENGINE_STATES = ("ready", "outdated", "unpublished")
EVENT_KINDS = ("published", "up-to-date", "failed", "stale", "started", "stopped", "changed", "removed", "daemon")


@dataclass(frozen=True)
class Counts:
    """How many there are of what.

    Attributes:
        subjects: by phase.
        engines: by one of :data:`ENGINE_STATES`: published and what the spec asks for; published, but the spec asks for
            another; not published.
        hooks: deliveries by receiver and result, as :class:`trtd.daemon.hooks.Hooks` counts them.
    """

    subjects: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    hooks: Counter[tuple[str, str]] = field(default_factory=Counter)


def count(subjects: Iterable[SubjectStatus], hooks: Counter[Any] | None = None) -> Counts:
    """The counts of a registry's subjects."""
    counts = Counts(hooks=Counter(hooks or {}))
    for subject in subjects:
        counts.subjects[subject.phase] += 1
        published = "ready" if subject.ready else "outdated"
        counts.engines.update("unpublished" if engine.version is None else published for engine in subject.engines)
    return counts


def results(outcome: Outcome) -> Counter[str]:
    """Engines of a build by what became of them: ``published``, ``up-to-date``, or the code of the error."""
    if not outcome.engines:
        return Counter([outcome.failure.problem.code] if outcome.failure else [])
    return Counter(
        engine.failure.problem.code if engine.failure else "published" if engine.built else "up-to-date"
        for engine in outcome.engines
        if not engine.unchanged
    )
