"""The files in ``specs/``: which are there, which are still, which must be read."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trtd.daemon.keys import is_spec_name, key_of
from trtd.daemon.record import FileState, Record
from trtd.daemon.settle import Settling
from trtd.daemon.spec_file import Signature, read_spec, unreadable

READING_S = 1.5
"""CPU time that reading specs may take in one look; the rest of a burst waits for the next."""
LOST_S = 5.0
"""How soon to look again for a ``specs/`` that is not there."""
SEVERAL = 2
"""So many specs do not vanish at once because somebody deleted each of them."""


@dataclass
class FolderLook:
    """What one look found.

    Attributes:
        read: specs of which something new was read.
        moved: specs that are new, or that have settled.
        gone: specs that are not there any more, and what was known of them.
        changed: whether anything changed that a watch of the folder should have told.
        due_mono_s: when to look again at the latest; infinite if nothing is waited for.
        problem: why the folder cannot be listed; what was known of it then stays as it was.
    """

    read: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    gone: dict[str, Record] = field(default_factory=dict)
    changed: bool = False
    due_mono_s: float = math.inf
    problem: str = ""


class SpecFolder:
    """``specs/`` and what is known of the files in it.

    Args:
        folder: ``specs/``.
        roots: folders that links in it may lead to.
        settle_s: how long a spec must be still before it is read, and missing before it is gone.
        return_s: how long they must be missing if all are, or the folder was away: it may be being filled again.
    """

    def __init__(self, folder: Path, roots: Sequence[Path], settle_s: float, return_s: float) -> None:
        self.records: dict[str, Record] = {}
        self._folder = folder
        self._roots = roots
        self._settle_s = settle_s
        self._return_s = return_s
        self._identity: tuple[int, int] | None = None
        self._was_away = False
        self._was_empty = False
        self._doubtful_until_mono_s = -math.inf
        self._spent_s = 0.0

    def restore(self, records: Mapping[str, Record]) -> None:
        """Take up what was known before a restart. Call it before the first look."""
        self.records.update(records)

    def look(self, now_mono_s: float) -> FolderLook:
        """List the folder and read what has settled."""
        look = FolderLook()
        self._spent_s = 0.0
        try:
            is_first = self._identify(now_mono_s)
            with os.scandir(self._folder) as found:
                entries = {key_of(entry.name): entry for entry in found if is_spec_name(entry.name)}
        except OSError as error:
            look.problem = _problem(self._folder, error)
            self._was_away = True
            look.due_mono_s = now_mono_s + LOST_S
            return look
        for key, entry in entries.items():
            self._look_at(key, entry, now_mono_s, look)
        missing = [key for key in self.records if key not in entries]
        if len(missing) == len(self.records) >= SEVERAL and not self._was_empty:
            self._doubtful_until_mono_s = now_mono_s + self._return_s
        self._was_empty = not entries
        for key in missing:
            self._miss(key, now_mono_s, look, at_once=is_first and now_mono_s >= self._doubtful_until_mono_s)
        return look

    def _identify(self, now_mono_s: float) -> bool:
        """Notice whether this is another folder than last time; gives whether there was none."""
        status = os.stat(self._folder)
        identity = (status.st_dev, status.st_ino)
        is_first = self._identity is None
        if self._was_away or self._identity not in (None, identity):
            self._doubtful_until_mono_s = now_mono_s + self._return_s
        self._identity, self._was_away = identity, False
        return is_first

    def _look_at(self, key: str, entry: os.DirEntry[str], now_mono_s: float, look: FolderLook) -> None:
        record = self.records.get(key)
        try:
            state: FileState = Signature.of(entry.stat())
        except OSError as error:
            if not os.path.lexists(entry.path):
                if record is not None:
                    self._miss(key, now_mono_s, look)
                return
            state = error.errno or 0
        if record is None:
            record = self.records[key] = Record({key: None})
            look.moved.append(key)
        record.missing_mono_s = None
        if state == record.state and record.reading is not None:
            if record.settling is not None:
                record.settling = None  # it is again what it was
                look.moved.append(key)
            if not record.reading.lasting:
                self._read(key, record, entry, state, look)
            return
        if record.settling is None:
            record.settling = Settling(self._settle_s, state, now_mono_s)
            look.changed |= not entry.is_symlink()
        still = record.settling.is_still(state, now_mono_s)
        if still and self._spent_s < READING_S and not self._read(key, record, entry, state, look):
            record.settling = Settling(self._settle_s, state, now_mono_s)
        if record.settling is not None:
            look.due_mono_s = min(look.due_mono_s, max(record.settling.due_mono_s, now_mono_s))

    def _read(self, key: str, record: Record, entry: os.DirEntry[str], state: FileState, look: FolderLook) -> bool:
        """Read a spec that is still; False if it turns out not to be."""
        before, path = time.thread_time(), Path(entry.path)
        if isinstance(state, Signature):
            reading = read_spec(path, state, record.reading, self._roots)
        else:
            reading = unreadable(path, OSError(state, os.strerror(state)))
        self._spent_s += time.thread_time() - before
        if reading is None:
            return False
        if reading != record.reading:
            record.reading = reading
            look.read.append(key)
        if record.settling is not None:
            record.settling = None
            look.moved.append(key)
        record.state = state
        record.linked = _linked(entry, state)
        return True

    def _miss(self, key: str, now_mono_s: float, look: FolderLook, *, at_once: bool = False) -> None:
        """A spec that was there is not. Editors that save by two renames make it so for a moment."""
        record = self.records[key]
        if record.missing_mono_s is None:
            record.missing_mono_s = now_mono_s
            look.changed = True
        due = max(record.missing_mono_s + self._settle_s, self._doubtful_until_mono_s)
        if at_once or now_mono_s >= due:
            look.gone[key] = self.records.pop(key)
        else:
            look.due_mono_s = min(look.due_mono_s, due)


def _linked(entry: os.DirEntry[str], state: FileState) -> str | None:
    """Folder to watch for the file that a link leads to. Not that of a device: in ``/dev`` something always happens."""
    if not entry.is_symlink() or (isinstance(state, Signature) and not entry.is_file()):
        return None
    return os.path.dirname(os.path.realpath(entry.path))


def _problem(folder: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{folder} is not there; specs that were in it count as they were. Make it again: mkdir {folder}"
    return f"{folder} cannot be listed ({error.strerror}); specs in it count as they were"
