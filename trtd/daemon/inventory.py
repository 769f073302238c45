"""When to look at the world: after a burst of events, when something has settled, and in any case now and then."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from trtd.daemon.devices import Device, devices
from trtd.daemon.messages import Blind, Gone, Now, Observed, Scanned, Seen
from trtd.daemon.parts import Parts
from trtd.daemon.perform import Performer
from trtd.daemon.policy import capacity, governed
from trtd.daemon.scan import Scanner
from trtd.daemon.watch import Watcher
from trtd.status import WatchStatus

JITTER = 0.1
BURST_S = 0.4  # a burst that does not end is looked into this often
BREATH = 4.0  # after a scan, events cause none for so many times as long: in a busy folder they never end …
CREDIT_S = 15.0  # … but so much of it is given in advance: who edits a spec now and then does not wait


class Inventory:
    """Scans when it is time, and tells the reconciler what it found.

    Attributes:
        scans, scan_s, scanned_at: how many scans there were, how long the last took, and when it was (wall clock).
    """

    def __init__(self, parts: Parts, do: Performer, remembered: Iterable[tuple[str, str]]) -> None:
        self.scans, self.scan_s = 0, 0.0
        self.scanned_at: float | None = None
        self._parts = parts
        self._do = do
        self._scanner = do.scanner = self._new_scanner(remembered)
        self._watcher: Watcher | None = None
        self._hinted: set[Path] = set()
        self._anything = False  # hints may have been lost
        self._first_hint_mono_s: float | None = None
        self._heard_mono_s = -math.inf  # when there were hints last
        self._hint_mono_s: float | None = None  # when to scan because of hints
        self._period_mono_s = 0.0  # when to scan in any case
        self._rested_mono_s = 0.0  # when all scans that events caused have been paid for

    def watch(self, wake: Callable[[], None]) -> None:
        """Begin to watch; ``wake`` is called from other threads when there was an event."""
        models = Path(os.path.realpath(self._parts.registry.models))
        self._watcher = Watcher(wake, trees=[models])

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()

    @property
    def watches(self) -> tuple[WatchStatus, ...]:
        return self._watcher.status() if self._watcher else ()

    @property
    def overflows(self) -> int:
        return self._watcher.overflows if self._watcher else 0

    def next_due(self) -> float:
        """When :meth:`look` will scan (``mono_s``), if no event comes before."""
        return self._period_mono_s if self._hint_mono_s is None else min(self._period_mono_s, self._hint_mono_s)

    def look(self, now: Now) -> bool:
        """Take up hints, and scan if it is time; whether it was."""
        self._take_hints(now)
        if now.mono_s < self.next_due():
            return False
        self._scan(now)
        return True

    def renew(self, now: Now) -> None:
        """The configuration has changed: what settles when, which folders may be read, what policy holds."""
        former = self._scanner
        self._scanner = self._do.scanner = self._new_scanner((key, former.memory(key)) for key in self._do.observed)
        for observed in list(self._do.observed.values()):
            self._see(observed, now)
        self._period_mono_s = now.mono_s

    def _new_scanner(self, remembered: Iterable[tuple[str, str]]) -> Scanner:
        registry, watch = self._parts.registry, self._parts.config.watch
        roots = tuple(Path(os.path.realpath(root)) for root in (registry.root, *self._parts.config.roots))
        made = Scanner(registry, roots=roots, settle_spec_s=watch.settle_spec_s, settle_s=watch.settle_s)
        made.restore(remembered)
        return made

    def _take_hints(self, now: Now) -> None:
        """Events make a scan come at once after a silence, else soon after the last one of a burst.

        The first scan is what settling begins with. A burst that goes on is looked into not much later than it began.
        """
        hints = self._watcher.take() if self._watcher else None
        if hints is None or not hints.any:
            return
        self._hinted |= hints.folders
        self._anything |= hints.lost
        self._first_hint_mono_s = self._first_hint_mono_s or now.mono_s
        debounce_s = self._parts.config.watch.debounce_s
        quiet_mono_s = min(now.mono_s + debounce_s, self._first_hint_mono_s + BURST_S)
        if now.mono_s - self._heard_mono_s > debounce_s:
            quiet_mono_s = now.mono_s
        self._heard_mono_s = now.mono_s
        self._hint_mono_s = max(quiet_mono_s, self._rested_mono_s - CREDIT_S)

    def _scan(self, now: Now) -> None:
        by_hint = self._hint_mono_s is not None and now.mono_s >= self._hint_mono_s
        result = self._scanner.scan(now.mono_s, hinted=self._hinted, anything=self._anything)
        self._hinted, self._anything, self._first_hint_mono_s, self._hint_mono_s = set(), False, None, None
        self._list_devices(result.devices, now)
        for key in result.gone:
            self._do.observed.pop(key, None)
            self._do.step(Gone(key), now)
        for recorded in result.recorded:
            self._do.step(recorded, now)
        for observed in result.seen:
            self._see(observed, now)
        self._do.step(Blind() if result.problem else Scanned(), now)
        self._do.degrade("specs", result.problem, now)
        if self._watcher is not None:
            self._watcher.follow(result.folders)
            self._watcher.checked(result.changed, now.mono_s)
        self._plan_next(now, result.next_due_mono_s)
        self.scans, self.scan_s, self.scanned_at = self.scans + 1, time.monotonic() - now.mono_s, now.wall_s
        if by_hint:
            self._rested_mono_s = max(self._rested_mono_s, now.mono_s) + (1 + BREATH) * self.scan_s

    def _list_devices(self, occupied: frozenset[str], now: Now) -> None:
        """GPUs come and go. What builds occupy and the kernel does not list, such as a part of a GPU, counts too."""
        parts, found = self._parts, devices()
        found += tuple(Device(id, id) for id in sorted(occupied.difference(device.id for device in found)))
        if found != parts.devices:
            parts.devices = found
            self._do.step(capacity(parts.config, [device.id for device in found]), now)

    def _plan_next(self, now: Now, settled_mono_s: float | None) -> None:
        watch = self._parts.config.watch
        is_blind = self._watcher is None or self._watcher.degraded
        period_s = min(watch.poll_s, watch.period_s) if is_blind else watch.period_s
        # With jitter, so that a thousand daemons on one network disk do not look at it in step.
        self._period_mono_s = now.mono_s + period_s * random.uniform(1 - JITTER, 1.0)
        if settled_mono_s is not None:
            self._period_mono_s = min(self._period_mono_s, settled_mono_s)

    def _see(self, observed: Observed, now: Now) -> None:
        self._do.observed[observed.key] = observed
        if observed.spec_digest:  # else there is nothing to remember
            self._parts.state.remember(observed.key, self._scanner.memory(observed.key))
        facts = observed.facts
        if facts is not None and (lawful := governed(self._parts.config, facts)) != facts:
            observed = replace(observed, facts=lawful)
        self._do.step(Seen(observed), now)
