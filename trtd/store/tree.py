"""A folder as an inventory: every file's relative path, size and digest."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from trtd.document import Document
from trtd.store.atomic import storage_errors
from trtd.store.digest import PREFIX, file_digest, stream_digest


class FileFacts(Document):
    """Size and content of one file; ``sha256`` is 64 hex digits, as ``sha256sum`` prints them."""

    sha256: str
    bytes: int


Inventory = dict[str, FileFacts]


def files_under(folder: Path) -> dict[str, os.stat_result]:
    """Everything but folders under ``folder``: relative POSIX path → ``lstat``, sorted by path. Follows no symlink.

    Raises:
        StorageError: the folder is missing or unreadable.
    """
    found: dict[str, os.stat_result] = {}
    with storage_errors("list the folder", folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inner = files_under(Path(entry.path))
                found |= {f"{entry.name}/{path}": facts for path, facts in inner.items()}
            else:
                found[entry.name] = entry.stat(follow_symlinks=False)
    return dict(sorted(found.items()))


def is_plain(facts: os.stat_result) -> bool:
    """Whether ``lstat`` found an ordinary file: no symlink, folder, device, pipe or socket."""
    return stat.S_ISREG(facts.st_mode)


def tree_bytes(folder: Path) -> int:
    """Bytes of all files under ``folder``; 0 if it is not there."""
    return sum(facts.st_size for facts in files_under(folder).values()) if folder.is_dir() else 0


def read_inventory(folder: Path) -> Inventory:
    """Size and digest of every plain file under ``folder``. Raises ``StorageError`` if one cannot be read."""
    return {path: file_facts(folder / path) for path, facts in files_under(folder).items() if is_plain(facts)}


def file_facts(path: Path, *, from_disk: bool = False) -> FileFacts:
    """Size and digest of one file; ``from_disk`` as in :func:`trtd.store.digest.file_digest`."""
    digest = file_digest(path, from_disk=from_disk)
    with storage_errors("read the file", path):
        return FileFacts(sha256=digest.removeprefix(PREFIX), bytes=path.stat().st_size)


def copy_file(source: Path, target: Path) -> FileFacts | None:
    """Copy a plain file to a new name, with the current time; ``None``, and nothing done, if it is not a plain file.

    Returns:
        Size and digest of the bytes as they were read from ``source``.

    Raises:
        StorageError: one of them cannot be read or written.
    """
    with storage_errors("read the file", source):
        if not is_plain(source.lstat()):
            return None
        # O_NOFOLLOW and O_NONBLOCK: somebody may have put a symlink or a pipe there since lstat.
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as reader:
        if not is_plain(os.fstat(descriptor)):
            return None
        with storage_errors(f"copy {source}", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as writer:
                digest = stream_digest(reader, writer)
                size = writer.tell()
    return FileFacts(sha256=digest.removeprefix(PREFIX), bytes=size)


def difference(folder: Path, expected: Mapping[str, FileFacts], *, rehash: bool, from_disk: bool = False) -> str | None:
    """The first thing in which ``folder`` differs from the inventory ``expected``, in words; ``None`` if nothing does.

    Args:
        folder: where the files lie; a missing folder holds no files.
        expected: relative path → facts. Files that are not named here count as a difference, empty folders do not.
        rehash: compare digests too, not only names, kinds and sizes.
        from_disk: as in :func:`trtd.store.digest.file_digest`.
    """
    found = files_under(folder) if folder.is_dir() else {}
    for path, facts in expected.items():
        if path not in found:
            return f"{path} is missing"
        if not is_plain(found[path]):
            return f"{path} is not a plain file"
        if found[path].st_size != facts.bytes:
            return f"{path} has {found[path].st_size} bytes instead of {facts.bytes}"
        if rehash and (digest := file_facts(folder / path, from_disk=from_disk).sha256) != facts.sha256:
            return f"{path} has sha256 {digest} instead of {facts.sha256}"
    strays = sorted(found.keys() - expected.keys())
    return f"{strays[0]} does not belong there" if strays else None
