"""What the daemon writes down: its plain data as the texts of the state database, gathered and written in one go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trtd.daemon.messages import Save
from trtd.status import DaemonStatus, Event, StageStatus, fields_of
from trtd.store.state import EVENTS_KEPT, FILE_NAME, Changes, StateStore

if TYPE_CHECKING:
    from trtd.registry.layout import Registry


class State:
    """Gathers what is to be written until :meth:`flush`; what could not be written stays gathered."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._forget: set[str] = set()
        self._subjects: dict[str, Save] = {}
        self._scans: dict[str, str | None] = {}
        self._live: dict[str, str | None] = {}
        self._events: list[Event] = []
        self._daemon: DaemonStatus | None = None

    @classmethod
    def open(cls, registry: Registry) -> State:
        """Open the registry's state database, or make it.

        Raises:
            StorageError: the disk refused.
        """
        return cls(StateStore.open(registry.private / FILE_NAME))

    def take_note(self) -> str:
        """What had to be done to have a database that works, in words for people; told once."""
        note, self._store.note = self._store.note, ""
        return note

    def take_lost(self) -> bool:
        """Whether what was written before is gone, so that everything must be gathered again; told once."""
        lost, self._store.lost = self._store.lost, False
        return lost

    def memories(self) -> Iterator[tuple[str, str]]:
        """Key and ``Save.memory`` as they were written last. Raises ``StorageError`` on the way if the disk refuses."""
        return ((row.key, row.memory) for row in self._store.load() if row.memory is not None)

    def scans(self) -> Iterator[tuple[str, str]]:
        """Key and text as :meth:`remember` got them last. Raises ``StorageError`` on the way if the disk refuses."""
        return ((row.key, row.scan) for row in self._store.load() if row.scan is not None)

    def save(self, save: Save) -> None:
        self._subjects[save.status.key] = save

    def forget(self, key: str) -> None:
        """Drop all that is known of a subject, what :meth:`remember` got included."""
        self._forget.add(key)
        for gathered in (self._subjects, self._scans, self._live):
            gathered.pop(key, None)

    def remember(self, key: str, scan: str | None) -> None:
        """Keep a text of the scanner's beside a subject; it comes back from :meth:`scans`."""
        self._scans[key] = scan

    def progress(self, key: str, stage: StageStatus | None, log: str = "") -> None:
        """Where the build of a subject is, and the log that it writes; ``None``: it is not being built any more."""
        self._live[key] = None if stage is None else json.dumps(fields_of(stage) | {"log": log})

    def tell(self, event: Event) -> None:
        self._events.append(event)
        del self._events[:-EVENTS_KEPT]

    def describe(self, daemon: DaemonStatus) -> None:
        self._daemon = daemon

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to write."""
        gathered = (self._forget, self._subjects, self._scans, self._live, self._events)
        return self._daemon is not None or any(gathered)

    def flush(self) -> int:
        """Write what was gathered, all or nothing; gives how many texts of subjects.

        Raises:
            StorageError: the disk refused; everything is still gathered, for the next try.
        """
        if not self.is_dirty:
            return 0
        written = len(self._subjects) + len(self._scans) + len(self._forget)
        self._store.write(
            Changes(
                forget=self._forget,
                subjects={key: (text_of(save.status), save.memory) for key, save in self._subjects.items()},
                scans=self._scans,
                live=self._live,
                events=[(event.subject, text_of(event)) for event in self._events],
                daemon=text_of(self._daemon) if self._daemon is not None else None,
            )
        )
        for gathered in (self._forget, self._subjects, self._scans, self._live, self._events):
            gathered.clear()
        self._daemon = None
        return written

    def close(self) -> None:
        """Let go of the database. What was not flushed is not written."""
        self._store.close()


def text_of(record: Any) -> str:
    """A record of :mod:`trtd.status` as JSON."""
    return json.dumps(record, default=fields_of, separators=(",", ":"))
