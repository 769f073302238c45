"""Figures for Prometheus: an HTTP endpoint, a text file, or both (``prometheus``). Off unless configured.

No label holds a path or a name: their number, and so the size of what is kept, does not grow with the registry. What
cannot be served is logged and shows in the daemon's status; it never ends anything.
"""

from __future__ import annotations

from typing import Protocol

from trtd.daemon.counts import Counts
from trtd.daemon.log import Log
from trtd.daemon.messages import Outcome
from trtd.daemon.settings import MetricsSection
from trtd.status import DaemonStatus, Event


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
