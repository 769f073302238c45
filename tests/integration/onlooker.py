"""Looks at what a daemon tells, many times a second: ``trtd status`` would start a process for each look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.integration.host import PATIENCE_S, Host
from trtd.daemon.snapshot import SnapshotReader
from trtd.status import DaemonStatus, Event, SubjectStatus

LOOK_S = 0.02


class Onlooker:
    """Reads the state database of a host's registry."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._reader = SnapshotReader(host.registry)

    def start(self, **environment: str) -> int:
        """Start a daemon and wait for its first scan; its process."""
        pid = self.host.start(**environment).pid
        self.until(self.is_up, "it did not start")
        return pid

    def close(self) -> None:
        self._reader.close()

    def subject(self, key: str) -> SubjectStatus | None:
        return next((found for found in self._reader.read().subjects if found.key == key), None)

    def phase(self, key: str) -> str | None:
        subject = self.subject(key)
        return subject.phase if subject else None

    def phases(self) -> Counter[str]:
        return Counter(subject.phase for subject in self._reader.read().subjects)

    def said(self, key: str) -> str:
        """What is wrong with a spec, and what to do; empty if nothing is."""
        subject = self.subject(key)
        problem = subject.problem if subject else None
        return f"{problem.message} | {problem.where} | {problem.hint}" if problem else ""

    def events(self, key: str) -> list[Event]:
        return list(self._reader.events_of(key, 1000))

    def told(self, key: str, kind: str) -> list[str]:
        """Texts of all events of a kind."""
        return [event.text for event in self.events(key) if event.kind == kind]

    @property
    def daemon(self) -> DaemonStatus:
        found = self._reader.read().daemon
        assert found is not None
        return found

    def mode(self, folder: Path) -> tuple[str, str]:
        """How changes of a folder are noticed, and why so."""
        watches = self._reader.read().daemon
        for watch in watches.watches if watches else ():
            if watch.folder == str(folder):
                return watch.mode, watch.reason
        return "", ""

    def is_up(self) -> bool:
        snapshot = self._reader.read()
        return snapshot.alive and snapshot.daemon is not None and snapshot.daemon.scans > 0

    def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        give_up_s = time.monotonic() + patience_s
        while not condition():
            log = self.host.log.read_text()[-4000:]
            assert time.monotonic() < give_up_s, f"{what}; the daemon's log:\n{log}"
            time.sleep(LOOK_S)

    def until_phase(self, key: str, phase: str) -> None:
        self.until(lambda: self.phase(key) == phase, f"{key} never became {phase}")
