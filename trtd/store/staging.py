"""Folders for work in progress, on the mount where the result will be renamed into place.

A staging folder is named after the process that owns it (number, start time) and is ``flock``-ed by it, so that
a sweep tells the living from the dead even when a process number was reused or lives in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from trtd.store.atomic import storage_errors
from trtd.store.lock import hold_folder
from trtd.store.process import is_alive, start_ticks
from trtd.store.tree import tree_bytes

_OWNER = re.compile(r"(\d+)-(\d+)-[0-9a-f]{12}-.*")


@contextlib.contextmanager
def staging_folder(root: Path, label: str) -> Iterator[Path]:
    """An empty folder in ``root`` of this process's own, removed with what is still in it when the context ends.

    Args:
        root: the registry's ``.trtd/staging``; made if need be.
        label: goes into the folder's name, for people.

    Raises:
        StorageError: the folder cannot be made.
    """
    pid = os.getpid()
    folder = root / f"{pid}-{start_ticks(pid) or 0}-{secrets.token_hex(6)}-{label}"
    with storage_errors("make a staging folder", folder):
        root.mkdir(exist_ok=True)  # not its parents: a registry that was moved away is not to be made anew
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # What cannot go now, a sweep removes later.
        os.close(descriptor)


def sweep(root: Path, *, dry_run: bool = False) -> dict[str, int]:
    """Remove the staging folders that dead processes left in ``root``.

    Returns:
        Folder's name → bytes that it held.

    Raises:
        StorageError: ``root`` cannot be listed.
    """
    removed: dict[str, int] = {}
    with storage_errors("list the staging folders", root):
        folders = sorted(root.iterdir()) if root.is_dir() else []
    for folder in folders:
        owner = _OWNER.fullmatch(folder.name)
        if owner is None or is_alive(int(owner[1]), int(owner[2])):
            continue
        with hold_folder(folder, fcntl.LOCK_EX) as held:
            if held:
                removed[folder.name] = tree_bytes(folder)
                if not dry_run:
                    shutil.rmtree(folder, ignore_errors=True)
    return removed
