"""Bytes are compared with their digest before any backend sees them: loading an engine is running foreign code."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trtd.errors import RegistryError

_CHUNK_BYTES = 1 << 20


def digest_of(path: Path) -> str:
    """``sha256:…`` of a file's bytes. Raises ``OSError``."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            state.update(piece)
    return f"sha256:{state.hexdigest()}"


def refuse_changed(path: Path, digest: str) -> None:
    """Raise ``RegistryError`` unless the file's bytes are those of ``digest``, ``sha256:…``."""
    try:
        found = digest_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    _compare(found, digest, path)


def read_unchanged(path: Path, digest: str) -> bytes:
    """The file's bytes, which are compared themselves: it may be another file the next time it is opened."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    _compare(f"sha256:{hashlib.sha256(data).hexdigest()}", digest, path)
    return data


def _unreadable(path: Path, error: OSError) -> RegistryError:
    return RegistryError(f"the engine cannot be read: {error.strerror}", where=str(path))


def _compare(found: str, wanted: str, path: Path) -> None:
    if found != wanted:
        raise RegistryError(
            f"the engine file is not the one that was built: {found[:19]} and not {wanted[:19]}",
            where=str(path),
            hint="it was changed or torn: trtd rollback NAME, or trtd build SPEC --force",
        )
