"""Figures for Prometheus: an HTTP endpoint, a text file, or both (``prometheus``). Off unless configured.

No label holds a path or a name: their number, and so the size of what is kept, does not grow with the registry. What
cannot be served is logged and shows in the daemon's status; it never ends anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trtd.daemon.log import Log
from trtd.daemon.messages import Outcome
from trtd.daemon.settings import MetricsSection
from trtd.status import DaemonStatus, Event, SubjectStatus

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


class Metrics(Protocol):
    """What the daemon counts.

    Attributes:
        wanted: whether anybody reads them; if not, counting subjects can be spared.
        degraded: what does not work, in words.
    """

    wanted: bool

    @property
    def degraded(self) -> tuple[str, ...]: ...

    def observe(self, event: Event) -> None: ...

    def finished(self, target: str, outcome: Outcome, duration_s: float) -> None: ...

    def update(self, status: DaemonStatus, counts: Counts) -> None: ...

    def close(self) -> None: ...


class NoMetrics:
    """Nobody asked for figures."""

    wanted = False
    degraded: tuple[str, ...] = ()

    def observe(self, event: Event) -> None:
        pass

    def finished(self, target: str, outcome: Outcome, duration_s: float) -> None:
        pass

    def update(self, status: DaemonStatus, counts: Counts) -> None:
        pass

    def close(self) -> None:
        pass


def open_metrics(section: MetricsSection, *, version: str, log: Log | None = None) -> Metrics:
    """What ``[metrics]`` asks for; never raises.

    Args:
        version: of trtd.
    """
    log = log or Log()
    if section.listen is None and section.textfile is None:
        return NoMetrics()
    try:
        from trtd.daemon.prometheus import Prometheus

        return Prometheus(section, version=version, log=log)
    except ImportError as error:
        log.error("no metrics: prometheus_client cannot be imported", reason=str(error))
        return _Broken()


class _Broken(NoMetrics):
    degraded = ("no metrics: prometheus_client cannot be imported; pip install --force-reinstall trtd",)


def results(outcome: Outcome) -> Counter[str]:
    """Engines of a build by what became of them: ``published``, ``up-to-date``, or the code of the error."""
    if not outcome.engines:
        return Counter([outcome.failure.problem.code] if outcome.failure else [])
    return Counter(
        engine.failure.problem.code if engine.failure else "published" if engine.built else "up-to-date"
        for engine in outcome.engines
        if not engine.unchanged
    )
