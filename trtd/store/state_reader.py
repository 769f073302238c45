"""Reading the state database while somebody else writes it: only what changed since the last look."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from trtd.errors import RegistryError
from trtd.store.state_file import Unfit, check_schema, connect, file_identity, schema_of, sqlite_errors

EVENTS_READ = 500


@dataclass(frozen=True)
class Delta:
    """What is new in the database.

    Attributes:
        whole: everything is here; what was known before counts no more.
        subjects: key → status, of those that changed.
        keys: of all subjects, if some may have gone; else ``None``.
        live: key → stage, of all that are being built.
        events: (id, text) of those that came, oldest first.
        daemon: the daemon about itself, if it ever said something.
    """

    whole: bool = True
    subjects: dict[str, str] = field(default_factory=dict)
    keys: frozenset[str] | None = None
    live: dict[str, str] = field(default_factory=dict)
    events: tuple[tuple[int, str], ...] = ()
    daemon: str | None = None


class StateReader:
    """A reader's end. Takes no lock between two looks, and writes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._frozen: tuple[int, int] | None = None
        self._has_looked = False
        self._forget_place()

    def poll(self) -> Delta | None:
        """What changed since the last look; ``None`` if nothing did. A file that is not there holds nothing.

        Raises:
            StorageError: it cannot be read. The next look tries again.
            RegistryError: it is not of this version of trtd.
        """
        with sqlite_errors("read the state database", self.path):
            identity = file_identity(self.path)
            is_same, self._identity = self._has_looked and identity == self._identity, identity
            if self._frozen is not None:
                is_same = is_same and self._frozen == self._frozen_now()
                if is_same:
                    return None
            if not is_same:
                self.close()
            self._has_looked = True
            if identity is None:
                return None if is_same else Delta()
            try:
                return self._look()
            except BaseException:
                self.close()
                raise

    def events_of(self, subject: str, limit: int) -> list[tuple[int, str]]:
        """(id, text) of the newest events of one subject, oldest first. Errors as in :meth:`poll`."""
        if file_identity(self.path) is None:
            return []
        with sqlite_errors("read the state database", self.path), contextlib.closing(self._open()[0]) as connection:
            if not _is_ready(connection, self.path):
                return []
            query = "SELECT id, text FROM events WHERE subject = ? ORDER BY id DESC LIMIT ?"
            return connection.execute(query, (subject, limit)).fetchall()[::-1]

    def close(self) -> None:
        """Let go of the file; the next look opens it again and gives all."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._frozen = None
        self._forget_place()

    def _forget_place(self) -> None:
        self._data_version = self._revision = self._deletions = -1
        self._last_event = 0

    def _look(self) -> Delta | None:
        whole = self._connection is None
        if self._connection is None:
            self._connection, self._frozen = self._open()
        connection = self._connection
        (data_version,) = connection.execute("PRAGMA data_version").fetchone()
        if data_version == self._data_version:
            return None
        connection.execute("BEGIN")
        try:
            delta = self._read(connection, whole) if _is_ready(connection, self.path) else Delta()
        finally:
            connection.execute("COMMIT")
        self._data_version = data_version
        if self._frozen is not None:  # it would never see a change
            frozen = self._frozen
            self.close()
            self._frozen = frozen
        return delta

    def _read(self, connection: sqlite3.Connection, whole: bool) -> Delta:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        query = "SELECT key, status FROM subjects WHERE revision > ? AND status IS NOT NULL"
        subjects = dict(connection.execute(query, (self._revision,)))
        keys = None
        if meta["deletions"] != self._deletions and not whole:
            keys = frozenset(key for (key,) in connection.execute("SELECT key FROM subjects WHERE status IS NOT NULL"))
        query = "SELECT id, text FROM events WHERE id > ? ORDER BY id DESC LIMIT ?"
        events = connection.execute(query, (self._last_event, EVENTS_READ)).fetchall()[::-1]
        live = dict(connection.execute("SELECT key, stage FROM live"))
        self._revision, self._deletions = meta["revision"], meta["deletions"]
        self._last_event = events[-1][0] if events else self._last_event
        return Delta(whole, subjects, keys, live, tuple(events), meta.get("daemon"))

    def _open(self) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        """A connection; with date and size of the file if it can only be read as it stands there now."""
        connection = connect(self.path, "mode=ro")
        try:
            schema_of(connection)
        except sqlite3.OperationalError:
            connection.close()
            # In a folder that this user cannot write to, SQLite reads a log only if its index is there already. If
            # there is no log, nobody has the database open, and its file can be read as it is.
            frozen = self._frozen_now()
            if frozen is None:
                raise
            return connect(self.path, "mode=ro&immutable=1"), frozen
        except BaseException:
            connection.close()
            raise
        return connection, None

    def _frozen_now(self) -> tuple[int, int] | None:
        if os.path.exists(f"{self.path}-wal"):
            return None
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size


def _is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; not yet, while a daemon is making the file."""
    objects = schema_of(connection)
    if not objects:
        return False
    try:
        check_schema(connection, objects)
    except Unfit as error:
        hint = "the daemon puts it aside and makes a new one when it starts; after an upgrade, restart it"
        raise RegistryError(f"the state database cannot be used: {error}", hint=hint, where=str(path)) from error
    return True
