"""Which file holds the log of a build, and following it from one attempt to the next."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from trtd.daemon.snapshot import SnapshotReader
    from trtd.registry.layout import Registry
    from trtd.status import SubjectStatus

_PIECE_BYTES = 1 << 16
LINE_BYTES = 1 << 16
"""A line that is longer is shown in pieces: a stage may print without ever ending its line."""


def log_of(registry: Registry, reader: SnapshotReader, subject: SubjectStatus) -> Path | None:
    """The log of the build that runs, else of the last one; ``None`` if there is none (any more)."""
    from trtd.daemon.build_logs import BuilderFiles

    of_process = BuilderFiles.of(registry, subject.key).log  # of a build that has not begun with any engine
    if running := reader.running_log(subject.key):
        wanted = [Path(running), of_process]
    elif subject.phase == "building":
        wanted = [of_process]
    else:
        records = [engine for engine in subject.engines if engine.version is not None]
        records.sort(key=lambda engine: engine.published_at or 0.0, reverse=True)
        wanted = [Path(subject.log)] if subject.log else []
        wanted += [log for engine in records if (log := record_log(registry, engine.name, engine.version)) is not None]
        wanted.append(of_process)
    return next((path for path in wanted if path.is_file()), None)


def record_log(registry: Registry, name: str, version: int | None) -> Path | None:
    """The log of a published version, the live one for ``None``; ``None`` if there is none."""
    from trtd.registry.layout import is_name

    if not is_name(name):
        return None
    found = version if version is not None else registry.latest(name)
    log = registry.record(name, found) / "build.log" if found is not None else None
    return log if log is not None and log.is_file() else None


class Lines:
    """Bytes in, whole lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._rest += piece
        *whole, self._rest = self._rest.split(b"\n")
        yield from whole
        if len(self._rest) >= LINE_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[bytes]:
        """The last line, which nobody has ended yet, if there is one."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest


class Follower:
    """Reads a log as it grows, and the next one when there is another.

    A log that was moved to its final place while it was read goes on where it was.

    Args:
        path: the log to read now; ``None`` while there is none.
    """

    def __init__(self, path: Callable[[], Path | None]) -> None:
        self._path = path
        self._at: Path | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._offset = 0
        self._lines = Lines()

    def poll(self) -> Iterator[Path | bytes]:
        """The lines that have come since, each log's path before its first line."""
        yield from self._read()
        path = self._path()
        if path is None or (path == self._at and self._is_still(path)):
            return
        file = _opened(path)
        if file is None:
            return
        yield from self._read()  # what was written up to the change
        if not self._goes_on_in(file):
            yield from self._lines.flush()
            file.seek(0)
            self._digest, self._offset = hashlib.sha256(), 0
            yield path
        self.close()
        self._at, self._file = path, file
        yield from self._read()

    def finish(self) -> Iterator[bytes]:
        """What is left of the last line."""
        yield from self._lines.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> Iterator[bytes]:
        while self._file is not None:
            piece = b""
            with suppress(OSError):
                piece = self._file.read(_PIECE_BYTES)
            if not piece:
                return
            self._digest.update(piece)
            self._offset += len(piece)
            yield from self._lines.feed(piece)

    def _is_still(self, path: Path) -> bool:
        """Whether the name still means the open file, and that was not begun anew."""
        if self._file is None:
            return False
        try:
            found = os.stat(path)
        except OSError:
            return True  # it was moved: where to, shows later
        return os.path.samestat(found, os.fstat(self._file.fileno())) and found.st_size >= self._offset

    def _goes_on_in(self, file: BinaryIO) -> bool:
        """Whether the file begins with all that was read; it stands behind that then."""
        if self._file is None:
            return False
        digest, left = hashlib.sha256(), self._offset
        with suppress(OSError):
            while left and (piece := file.read(min(left, _PIECE_BYTES))):
                digest.update(piece)
                left -= len(piece)
        return not left and self._offset > 0 and digest.digest() == self._digest.digest()


def _opened(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except OSError:  # it is not there yet
        return None
