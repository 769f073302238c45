"""What the state database tells, as a :class:`trtd.status.Snapshot`: for ``trtd status`` and the dashboard.

Works while the daemon writes, when it is dead, and across the change from one daemon to the next.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from trtd.status import (
    DaemonStatus,
    Event,
    Problem,
    Snapshot,
    StageStatus,
    SubjectStatus,
    daemon_from,
    event_from,
    stage_from,
    subject_from,
)
from trtd.store.process import is_alive
from trtd.store.state import FILE_NAME
from trtd.store.state_reader import EVENTS_READ, Delta, StateReader

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

Record = TypeVar("Record")


class SnapshotReader:
    """Reads again and again; what did not change since the last look is neither read nor parsed again."""

    def __init__(self, registry: Registry) -> None:
        self._reader = StateReader(registry.private / FILE_NAME)
        self._subjects: dict[str, SubjectStatus] = {}
        self._ordered: tuple[SubjectStatus, ...] = ()
        self._live: dict[str, StageStatus] = {}
        self._logs: dict[str, str] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_READ)
        self._snapshot = Snapshot(daemon=None, alive=False)

    def read(self) -> Snapshot:
        """Everything, as of now; the very same object if nothing changed.

        Raises:
            StorageError: the database cannot be read; the next look tries again.
            RegistryError: it is not of this version of trtd.
        """
        delta = self._reader.poll()
        daemon = self._snapshot.daemon
        if delta is not None:
            self._take(delta)
            daemon = _daemon(delta.daemon)
        alive = daemon is not None and is_alive(daemon.pid, daemon.started_ticks)
        if delta is not None or alive != self._snapshot.alive:
            live = dict(self._live) if alive else {}  # builds end with their daemon
            self._snapshot = Snapshot(daemon, alive, self._ordered, live, tuple(self._events))
        return self._snapshot

    def events_of(self, key: str, limit: int = 20) -> tuple[Event, ...]:
        """The newest events of one subject, newest last. Errors as in :meth:`read`."""
        return tuple(event for row in self._reader.events_of(key, limit) if (event := _event(*row)) is not None)

    def running_log(self, key: str) -> str:
        """Path of the log of a running build, as of the last :meth:`read`; empty if none is known."""
        return self._logs.get(key, "") if self._snapshot.alive else ""

    def close(self) -> None:
        self._reader.close()

    def _take(self, delta: Delta) -> None:
        if delta.whole:
            self._subjects.clear()
            self._events.clear()
        if delta.keys is not None:
            self._subjects = {key: subject for key, subject in self._subjects.items() if key in delta.keys}
        self._subjects.update((key, _subject(key, text)) for key, text in delta.subjects.items())
        if delta.whole or delta.keys is not None or delta.subjects:
            self._ordered = tuple(sorted(self._subjects.values(), key=lambda subject: (subject.name, subject.key)))
        self._live, self._logs = {}, {}
        for key, text in delta.live.items():
            if (found := _made(_stage, text)) is not None:
                self._live[key], self._logs[key] = found
        self._events.extend(event for row in delta.events if (event := _event(*row)) is not None)


def read_snapshot(registry: Registry) -> Snapshot:
    """One look. Errors as in :meth:`SnapshotReader.read`."""
    reader = SnapshotReader(registry)
    try:
        return reader.read()
    finally:
        reader.close()


def _made(make: Callable[[dict[str, Any]], Record], text: str) -> Record | None:
    """A record; ``None`` if a daemon of another version wrote it in a way that this one does not understand."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return make(json.loads(text))
    return None


def _subject(key: str, text: str) -> SubjectStatus:
    found = _made(subject_from, text)
    if found is not None:
        return found
    hint = "the daemon may be of another version: restart it with this one"
    problem = Problem("registry", "what the daemon wrote about this spec cannot be read", hint=hint)
    return SubjectStatus(key=key, name=key, target="", phase="waiting", problem=problem)


def _stage(data: dict[str, Any]) -> tuple[StageStatus, str]:
    log = str(data.pop("log", ""))
    return stage_from(data), log


def _daemon(text: str | None) -> DaemonStatus | None:
    if text is None:
        return None
    found = _made(daemon_from, text)
    if found is not None:
        return found
    basics = ("pid", "started_ticks", "version", "registry", "started_at")
    return _made(lambda data: DaemonStatus(**{name: data[name] for name in basics}), text)


def _event(number: int, text: str) -> Event | None:
    found = _made(event_from, text)
    return replace(found, id=number) if found is not None else None
