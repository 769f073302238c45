"""What the daemon says of itself: for the state database, the service manager and the metrics."""

from __future__ import annotations

import os
import time

from trtd.daemon.counts import count
from trtd.daemon.devices import CPU
from trtd.daemon.inventory import Inventory
from trtd.daemon.messages import Now
from trtd.daemon.parts import Parts
from trtd.status import PHASES, DaemonStatus, DeviceStatus
from trtd.store.process import start_ticks


class Describer:
    """Describes the daemon whenever that has changed."""

    def __init__(self, parts: Parts, inventory: Inventory) -> None:
        self._parts = parts
        self._inventory = inventory
        self._started_at = time.time()
        self._ticks = start_ticks(os.getpid()) or 0
        self._told: DaemonStatus | None = None
        self._line = ""

    def update(self, now: Now) -> None:
        """Tell everybody who wants to know, if there is anything new."""
        parts, status = self._parts, self.status()
        if status != self._told:
            self._told = status
            parts.state.describe(status)
            if parts.metrics.wanted:
                parts.metrics.update(status, count(parts.reconciler.statuses(), parts.hooks.counts))
        line = self._whole_line()
        if line != self._line:
            self._line = line
            parts.notifier.status(line)

    def status(self) -> DaemonStatus:
        parts, inventory = self._parts, self._inventory
        builds = parts.config.limits.builds
        return DaemonStatus(
            pid=os.getpid(),
            started_ticks=self._ticks,
            version=parts.version,
            registry=str(parts.registry.root),
            started_at=self._started_at,
            last_scan_at=inventory.scanned_at,
            scan_s=inventory.scan_s,
            scans=inventory.scans,
            overflows=inventory.overflows,
            watches=inventory.watches,
            devices=tuple(
                DeviceStatus(d.id, d.name, parts.reconciler.occupied(d.id), builds if d.id == CPU else 1)
                for d in parts.devices
            ),
            degraded=self._degraded(),
        )

    def line(self) -> str:
        """``3 building, 12 ready, 1 stalled``."""
        counts = self._parts.reconciler.counts()
        words = [f"{counts[phase]} {phase}" for phase in PHASES if counts.get(phase)]
        return ", ".join(words) or "no specs"

    def _whole_line(self) -> str:
        """For the service manager: with what does not work as it should, which nobody would look for elsewhere."""
        return "; degraded: ".join([self.line(), *self._degraded()])

    def _degraded(self) -> tuple[str, ...]:
        return (*self._parts.degraded.values(), *self._parts.metrics.degraded)
