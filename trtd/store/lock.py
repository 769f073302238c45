"""One writer at a time: an advisory ``flock`` on a file that says who holds it.

The kernel frees the lock when its holder dies, however it dies. The descriptor is close-on-exec, so a program
that the holder starts does not keep the lock alive; a bare ``fork`` without exec does inherit it.
The lock file is never removed: two processes would then hold locks on two files of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from trtd.errors import RegistryBusy
from trtd.store.atomic import storage_errors
from trtd.store.process import command_line, is_alive, start_ticks

_POLL_S = 0.05
_INTRODUCTION_TRIES = 5
_LIMIT_BYTES = 4096


@contextlib.contextmanager
def hold(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock at ``path`` while the context lasts. Not reentrant: the same process is refused as well.

    Args:
        path: the lock file; it and its folder are made if need be.
        what: what the lock is held for, e.g. ``publish digits-int8``; shown to those who are refused.
        wait_s: how long to wait for another holder before giving up.

    Raises:
        RegistryBusy: somebody else holds it; the message names the process id and its command.
        StorageError: the lock file cannot be made or written.
    """
    deadline = time.monotonic() + wait_s
    with storage_errors("open the lock file", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
    try:
        while not _try_flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise _busy(path, what)
            time.sleep(_POLL_S)
        with storage_errors("sign the lock file", path):
            _sign(descriptor, what)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_folder(folder: Path, kind: int) -> Iterator[bool]:
    """Hold a lock on a folder itself, without waiting and without any file beside it.

    Args:
        folder: what to lock.
        kind: ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``.

    Yields:
        Whether the lock is held; False if somebody else has it or the folder is not there (any more).

    Raises:
        StorageError: the folder cannot be opened.
    """
    descriptor = _open_folder(folder)
    if descriptor is None:
        yield False
        return
    try:
        yield _try_flock(descriptor, kind) and _is_at(descriptor, folder)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    # Only now O_CREAT: in a sticky folder the kernel refuses it for others' files (proc_sys_fs(5), protected_regular).
    return os.open(path, flags | os.O_CREAT, 0o644)


def _open_folder(folder: Path) -> int | None:
    with storage_errors("open the folder", folder), contextlib.suppress(FileNotFoundError):
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: it may have been renamed away between ``open`` and ``flock``."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int, what: str) -> None:
    pid = os.getpid()
    holder = {"pid": pid, "started": start_ticks(pid), "command": command_line(), "what": what}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _busy(path: Path, what: str) -> RegistryBusy:
    hint = "wait until it is done and try again, or stop that process; the lock goes with it"
    for _ in range(_INTRODUCTION_TRIES):
        holder = _read_holder(path)
        if holder is not None:
            return RegistryBusy(f"cannot {what} now: {holder}", hint=hint, where=str(path))
        time.sleep(_POLL_S / 5)
    hint = f"`fuser {path}` names it"
    return RegistryBusy(f"cannot {what} now: another process holds the lock", hint=hint, where=str(path))


def _read_holder(path: Path) -> str | None:
    """Who signed the lock; ``None`` if nobody or a dead holder did, for then the new one is yet to sign."""
    try:
        with open(path, "rb") as file:
            holder = json.loads(file.read(_LIMIT_BYTES))
        if not is_alive(holder["pid"], holder["started"]):
            return None
        return f"process {holder['pid']} ({holder['command']}) holds the lock to {holder['what']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
