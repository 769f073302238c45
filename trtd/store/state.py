"""The state database: what the daemon knows and does, in one SQLite file that one process writes and any number read.

It holds texts and understands none of them. What is published is the truth: this file may be lost at any time and is
then made anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trtd.store.failpoint import failpoint
from trtd.store.state_file import (
    COMPANIONS,
    file_identity,
    is_damage,
    move_aside,
    open_database,
    sqlite_errors,
    transaction,
)

FILE_NAME = "state.db"
EVENTS_KEPT = 10_000
CHECKPOINT_BYTES = 4 << 20

_PUT = """
INSERT INTO subjects (key, revision, status, memory) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
revision = CASE WHEN status IS excluded.status THEN revision ELSE excluded.revision END,
status = excluded.status, memory = excluded.memory"""
_PUT_SCAN = """
INSERT INTO subjects (key, revision, scan) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET scan = excluded.scan"""


@dataclass(frozen=True)
class Changes:
    """One transaction.

    Attributes:
        forget: keys to drop with all that is known of them, before anything else.
        subjects: key → (status, memory).
        scans: key → what the scanner remembers of it.
        live: key → stage that its build is in; ``None``: it is not built any more.
        events: (key or empty, text), oldest first.
        daemon: the daemon about itself; ``None``: as before.
    """

    forget: Collection[str] = ()
    subjects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    scans: Mapping[str, str | None] = field(default_factory=dict)
    live: Mapping[str, str | None] = field(default_factory=dict)
    events: Sequence[tuple[str, str]] = ()
    daemon: str | None = None


@dataclass(frozen=True)
class Stored:
    """One subject; ``None`` where nothing was written."""

    key: str
    status: str | None
    memory: str | None
    scan: str | None


class StateStore:
    """The writer's end. One at a time: the daemon holds a lock of its own.

    Attributes:
        path: the file. If it vanishes or is replaced, the next write puts it back with everything in it.
        note: what was done to have a database that works, in words; empty if it was there or is the first.
        lost: rows were lost since this was last set to False: all there is to know must be written again.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, note: str) -> None:
        self.path = path
        self.note = note
        self.lost = False
        self._connection: sqlite3.Connection | None = connection
        self._identity = file_identity(path)

    @classmethod
    def open(cls, path: Path) -> StateStore:
        """Open the database, or make it; one that is damaged or not of this schema is moved aside, see ``note``.

        Raises:
            StorageError: the disk refused.
        """
        return cls(path, *open_database(path))

    def load(self) -> Iterator[Stored]:
        """All subjects, in no order, each read when it is asked for: all at once would leave memory in pieces.

        Raises:
            StorageError: the disk refused.
        """
        with sqlite_errors("read the state database", self.path):
            for row in self._usable().execute("SELECT key, status, memory, scan FROM subjects"):
                yield Stored(*row)

    def write(self, changes: Changes) -> None:
        """Write all of it or nothing.

        Raises:
            StorageError: the disk refused, and nothing is changed; the same write may be tried again.
        """
        with sqlite_errors("write the state database", self.path):
            connection = self._usable()
            try:
                with transaction(connection):
                    failpoint("state.begin")
                    _write(connection, changes)
                    failpoint("state.before-commit")
            except sqlite3.DatabaseError as error:
                self._give_up(error)
                raise
        with contextlib.suppress(OSError):  # it is written, whatever comes now
            failpoint("state.committed")
        self._checkpoint()

    def close(self) -> None:
        """Fold the log into the database and let go of it. Nothing is lost if that fails."""
        if self._connection is None:
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            failpoint("state.closing")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._connection = None

    def _usable(self) -> sqlite3.Connection:
        """A connection to the file that is at ``path``."""
        connection = self._connection
        if connection is None:
            connection, note = open_database(self.path)
            is_another = file_identity(self.path) != self._identity
            self.lost, self.note = self.lost or bool(note) or is_another, note or self.note
        elif file_identity(self.path) == self._identity:
            return connection
        else:
            connection = self._put_back(connection)
        self._connection, self._identity = connection, file_identity(self.path)
        return connection

    def _put_back(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """The file was removed, or replaced by another: make it anew from the old one, which is still open."""
        note = "the state database was removed, and has been made anew"
        if any(os.path.lexists(f"{self.path}{companion}") for companion in COMPANIONS):
            note = move_aside(self.path, "it is not the one that the daemon had opened")
        new, _ = open_database(self.path)
        try:
            connection.backup(new)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                new.close()
                raise
            new.close()
            new, _ = open_database(self.path)
            self.lost = True
        connection.close()
        self.note = note
        return new

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        """Open and check the file anew at the next try, unless this connection is as good as another would be."""
        if is_damage(error) or not any(passing in str(error) for passing in ("locked", "full", "unable to open")):
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _checkpoint(self) -> None:
        """Fold the log into the database once it is long. What fails here is tried again after the next write."""
        with contextlib.suppress(OSError, sqlite3.Error):
            if self._connection is None or os.stat(f"{self.path}-wal").st_size < CHECKPOINT_BYTES:
                return
            failpoint("state.checkpoint")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            failpoint("state.checkpointed")


def _write(connection: sqlite3.Connection, changes: Changes) -> None:
    revision = 1 + int(connection.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])
    if changes.forget:
        _forget(connection, changes.forget)
    subjects = changes.subjects.items()
    connection.executemany(_PUT, ((key, revision, status, memory) for key, (status, memory) in subjects))
    connection.executemany(_PUT_SCAN, ((key, revision, scan) for key, scan in changes.scans.items()))
    failpoint("state.written")
    for key, stage in changes.live.items():
        if stage is None:
            connection.execute("DELETE FROM live WHERE key = ?", (key,))
        else:
            connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?)", (key, stage))
    if changes.events:
        connection.executemany("INSERT INTO events (subject, text) VALUES (?, ?)", changes.events)
        connection.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (EVENTS_KEPT,))
    if changes.daemon is not None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('daemon', ?)", (changes.daemon,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))


def _forget(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
    for key in keys:
        connection.execute("DELETE FROM subjects WHERE key = ?", (key,))
        connection.execute("DELETE FROM live WHERE key = ?", (key,))
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'deletions'")
