"""Digests, always written ``sha256:<64 hex digits>``."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from trtd.store.atomic import storage_errors

_CHUNK_BYTES = 1 << 20
PREFIX = "sha256:"


def file_digest(path: Path, *, from_disk: bool = False) -> str:
    """Digest of a file's bytes, read in pieces.

    Args:
        path: the file.
        from_disk: ask the kernel to forget its cached pages first, so that the bytes come from the disk. Works for
            pages that were flushed.

    Raises:
        StorageError: the file cannot be read.
    """
    with storage_errors("read the file", path), open(path, "rb", buffering=0) as file:
        if from_disk:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return stream_digest(file)


def stream_digest(source: io.FileIO, copy_to: BinaryIO | None = None) -> str:
    """Digest of what is left of an open binary file; each piece is also written to ``copy_to`` if given."""
    state = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    while count := source.readinto(buffer):
        state.update(view[:count])
        if copy_to is not None:
            copy_to.write(view[:count])
    return PREFIX + state.hexdigest()


def json_digest(value: Any) -> str:
    """Digest of plain data: of its JSON with sorted keys, no spaces, and no NaN.

    Equal data of different types differ: ``1`` and ``1.0`` are two digests; a tuple equals the list.

    Raises:
        TypeError, ValueError: the value is not plain data; that is the caller's bug.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()
