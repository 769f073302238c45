"""Metrics by prometheus_client, served over HTTP or written to a text file. Imported only when somebody wants them."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trtd.daemon.counts import ENGINE_STATES, EVENT_KINDS, Counts, results
from trtd.daemon.log import Log
from trtd.daemon.messages import Outcome
from trtd.daemon.metrics_server import Server
from trtd.daemon.setting_values import address
from trtd.daemon.settings import MetricsSection
from trtd.spec.values import printable
from trtd.status import PHASES, DaemonStatus, Event

RETRY_S = 30.0
"""How often listening or writing is tried again after it failed."""
BUCKETS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
NO_NETWORK = "; the systemd unit allows no network: run `trtd install-service` again"
_WRITE_EVERY_S = 1.0


class Prometheus:
    """Counts in a registry of its own, and serves it."""

    wanted = True

    def __init__(self, section: MetricsSection, *, version: str, log: Log) -> None:
        self._section, self._log = section, log
        self._last: tuple[DaemonStatus, Counts] | None = None
        self._faults: dict[str, str] = {}
        self._try_again_at: dict[str, float] = {}
        self._server: Server | None = None
        self.registry = CollectorRegistry()
        Gauge("trtd_build_info", "Version of trtd.", ["version"], registry=self.registry).labels(version).set(1)
        self._events = Counter("trtd_events", "What happened, by kind.", ["kind"], registry=self.registry)
        self._builds = Counter(
            "trtd_builds", "Engines built, or tried to.", ["backend", "result"], registry=self.registry
        )
        self._durations = Histogram(
            "trtd_build_duration_seconds",
            "Time of build processes that built something or failed to; precision: of all their engines, joined by +.",
            ["backend", "precision"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        for kind in EVENT_KINDS:
            self._events.labels(kind)
        self.registry.register(_Standing(self))
        self._listen()

    @property
    def degraded(self) -> tuple[str, ...]:
        return tuple(self._faults.values())

    @property
    def port(self) -> int | None:
        """That the endpoint listens on."""
        return self._server.port if self._server else None

    def observe(self, event: Event) -> None:
        """Count an event."""
        self._events.labels(event.kind if event.kind in EVENT_KINDS else "other").inc()

    def finished(self, target: str, outcome: Outcome, duration_s: float) -> None:
        """Count what became of a build process.

        Args:
            target: the backend, as the spec names it.
            duration_s: of the whole process.
        """
        for result, number in results(outcome).items():
            self._builds.labels(target, result).inc(number)
        if any(engine.built or (engine.failure and not engine.unchanged) for engine in outcome.engines):
            precision = "+".join(sorted({engine.status.precision for engine in outcome.engines}))
            self._durations.labels(target, precision).observe(duration_s)

    def update(self, status: DaemonStatus, counts: Counts) -> None:
        """Take note of the state of things, write the text file, and try again what failed before."""
        self._last = (status, counts)
        self._listen()
        self._write()

    def close(self) -> None:
        """Write the file a last time and stop listening."""
        self._write(last=True)
        if self._server is not None:
            self._server.close()
            self._server = None

    def standing(self) -> Iterator[Metric]:
        """What the daemon's last status says."""
        if self._last is None:
            return
        status, counts = self._last
        yield CounterMetricFamily(
            "trtd_watch_overflows", "Times that events of changes were lost, or may have been.", value=status.overflows
        )
        yield CounterMetricFamily("trtd_scans", "Full scans.", value=status.scans)
        yield GaugeMetricFamily("trtd_scan_duration_seconds", "Time of the last full scan.", value=status.scan_s)
        if status.last_scan_at is not None:
            name = "trtd_last_scan_timestamp_seconds"
            yield GaugeMetricFamily(name, "When the last full scan ended.", value=status.last_scan_at)
        yield GaugeMetricFamily("trtd_degraded", "Things that do not work as they should.", value=len(status.degraded))
        yield GaugeMetricFamily("trtd_queue_length", "Builds that wait.", value=counts.subjects["queued"])
        subjects = GaugeMetricFamily("trtd_subjects", "Specs, by phase.", labels=["phase"])
        for phase in PHASES:
            subjects.add_metric([phase], counts.subjects[phase])
        yield subjects
        engines = GaugeMetricFamily("trtd_engines", "Engines that specs ask for, by state.", labels=["state"])
        for state in ENGINE_STATES:
            engines.add_metric([state], counts.engines[state])
        yield engines
        hooks = CounterMetricFamily("trtd_notifications", "Deliveries of events.", labels=["receiver", "result"])
        for (receiver, result), number in sorted(counts.hooks.items()):
            hooks.add_metric([receiver, result], number)
        yield hooks

    def _listen(self) -> None:
        if self._section.listen is None or self._server is not None or not self._is_due("listen"):
            return
        try:
            self._server = Server(*address(self._section.listen), self.registry)
        except OSError as error:
            hint = NO_NETWORK if error.errno == errno.EAFNOSUPPORT else ""
            self._fault("listen", f"no metrics on {self._section.listen}: {error.strerror or error}{hint}")
        else:
            self._mended("listen", f"metrics are served on {self._section.listen}")

    def _write(self, *, last: bool = False) -> None:
        if self._section.textfile is None or not (last or self._is_due("write")):
            return
        try:
            write_to_textfile(self._section.textfile, self.registry)
        except OSError as error:
            file = printable(self._section.textfile)
            self._fault("write", f"no metrics in {file}: {error.strerror or error}")
        else:
            self._mended("write", f"metrics are written to {printable(self._section.textfile)}")
            self._try_again_at["write"] = time.monotonic() + _WRITE_EVERY_S

    def _is_due(self, what: str) -> bool:
        return time.monotonic() >= self._try_again_at.get(what, 0.0)

    def _fault(self, what: str, words: str) -> None:
        if self._faults.get(what) != words:
            self._log.error(words)
        self._faults[what] = words
        self._try_again_at[what] = time.monotonic() + RETRY_S

    def _mended(self, what: str, words: str) -> None:
        if self._faults.pop(what, None) is not None:
            self._log.info(words)


class _Standing(Collector):
    """Gives prometheus_client what is known at the moment it asks."""

    def __init__(self, owner: Prometheus) -> None:
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        yield from self._owner.standing()
