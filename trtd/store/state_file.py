"""The file of the state database: its tables, opening it, and what becomes of one that is not ours or is damaged.

A trap: closing *any* descriptor of the file drops all locks that SQLite holds on it in this process (fcntl(2)). Here it
is only ever looked at by its name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from trtd.errors import StorageError
from trtd.store.atomic import storage_error
from trtd.store.failpoint import failpoint

APPLICATION_ID = 0x54525444  # "TRTD"
SCHEMA_VERSION = 1
BUSY_S = 2.0
BROKEN_KEPT = 5
COMPANIONS = ("", "-wal", "-shm", "-journal")

# ``revision`` of a row is that of the last write that changed its status, so that a reader asks for newer ones alone.
SCHEMA = (
    "CREATE TABLE subjects (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, status TEXT, memory TEXT, scan TEXT)",
    "CREATE INDEX subjects_by_revision ON subjects (revision)",
    "CREATE TABLE live (key TEXT PRIMARY KEY, stage TEXT NOT NULL)",
    "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, text TEXT NOT NULL)",
    "CREATE INDEX events_by_subject ON events (subject, id)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value)",
)

_CAUSES = {
    "database or disk is full": ("the disk is full", "free space or run `trtd gc`"),
    "disk I/O error": ("the disk failed to read or write", "look into `dmesg` and the disk's health"),
    "attempt to write a readonly database": (
        "it is read-only for this user",
        "run as the user who owns the registry, mend the owner with chown, or remount the file system writable",
    ),
    "unable to open database file": (
        "its folder is missing or not accessible",
        "look at the folder and its owner; `trtd init` makes a registry",
    ),
    "database is locked": ("another process keeps it locked", "`fuser` on the file names the process: let it end"),
}
_DAMAGED = ("it is damaged", "the daemon puts it aside and makes a new one; if it does not, restart it")


class Unfit(Exception):
    """The file cannot serve as the state database, and why."""


@contextlib.contextmanager
def sqlite_errors(what: str, path: Path) -> Iterator[None]:
    """Raise what SQLite and the disk say inside as a ``StorageError``. Wrong SQL stays what it is: a bug of ours."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what, path) from error
    except sqlite3.DatabaseError as error:
        if not (is_damage(error) or isinstance(error, (sqlite3.OperationalError, sqlite3.InternalError))):
            raise
        unknown = (str(error), "look into `dmesg`; a restarted daemon makes a new one if this one is damaged")
        cause, hint = _DAMAGED if is_damage(error) else _CAUSES.get(str(error), unknown)
        raise StorageError(f"could not {what}: {cause}", hint=hint, where=str(path)) from error


def is_damage(error: BaseException) -> bool:
    """Whether SQLite found the file damaged, or to be no database; it raises the bare class for these alone."""
    return type(error) is sqlite3.DatabaseError


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode; ``mode`` is a query of SQLite's file URIs: ``mode=ro``, ``immutable=1``."""
    uri = f"file:{quote(os.fsencode(path))}?{mode}"
    return sqlite3.connect(uri, timeout=BUSY_S, isolation_level=None, uri=True)


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; ``None`` if there is no file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def open_database(path: Path) -> tuple[sqlite3.Connection, str]:
    """The writer's connection to a database that is whole and ours, and what was done to have it, in words.

    A file that is damaged, another program's or of another schema is moved aside, and a new one is made.

    Raises:
        StorageError: the disk refused.
    """
    note = ""
    with sqlite_errors("open the state database", path):
        while True:
            connection: sqlite3.Connection | None = None
            try:
                failpoint("state.open")
                _refuse_odd_file(path)
                connection = connect(path, "mode=rwc")
                _prepare(connection)
                return connection, note
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if note or not (isinstance(error, Unfit) or is_damage(error)):
                    raise
                note = move_aside(path, str(error))


def move_aside(path: Path, reason: str) -> str:
    """Rename the file and its companions to ``<name>.broken-<n>…``; says so in words. Only the newest few are kept."""
    numbers = sorted(_broken_numbers(path))
    for old in numbers[: max(0, len(numbers) + 1 - BROKEN_KEPT)]:
        for companion in COMPANIONS:
            path.with_name(f"{path.name}.broken-{old}{companion}").unlink(missing_ok=True)
    broken = path.with_name(f"{path.name}.broken-{(numbers or [0])[-1] + 1}")
    # The database first: a log that stays behind alone is dropped by SQLite when it makes a new database.
    for companion in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{companion}", f"{broken}{companion}")
        failpoint("state.moving-aside")
    return f"the state database was put aside as {broken.name} and made anew: {reason}"


def _broken_numbers(path: Path) -> Iterator[int]:
    prefix = f"{path.name}.broken-"
    for name in os.listdir(path.parent):
        number = name[len(prefix) :]
        if name.startswith(prefix) and number.isdecimal() and number.isascii():
            yield int(number)


def _refuse_odd_file(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unfit("it is not a plain file")


def _prepare(connection: sqlite3.Connection) -> None:
    objects = schema_of(connection)
    if objects:
        check_schema(connection, objects)
        # Also finds damage that would otherwise show in the middle of the work. 40 ms for 10,000 subjects.
        verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if verdict != "ok":
            raise Unfit(f"it is damaged: {verdict}")
    elif _pragma(connection, "application_id") not in (0, APPLICATION_ID):
        raise Unfit("it is another program's")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last writes, never the whole
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the store does it, where a test can kill it
    connection.execute(f"PRAGMA journal_size_limit = {2 << 20}")
    connection.execute("PRAGMA cache_size = -1024")
    failpoint("state.created")
    with transaction(connection):
        if not objects:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", [("revision", 0), ("deletions", 0)])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("DELETE FROM live")  # of a daemon that is no more
        failpoint("state.prepared")


def schema_of(connection: sqlite3.Connection) -> tuple[str, ...]:
    """SQL of all tables and indexes; empty in a new file."""
    found = connection.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return tuple(str(sql) for (sql,) in found)


def check_schema(connection: sqlite3.Connection, objects: tuple[str, ...]) -> None:
    """Raise ``Unfit`` if the database is not ours, or not of this version."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise Unfit("it is another program's")
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise Unfit(f"its schema is {version}, and this trtd knows {SCHEMA_VERSION}")
    if sorted(objects) != sorted(SCHEMA):
        raise Unfit("its tables are not those that trtd makes")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, for the one writer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")
        raise
