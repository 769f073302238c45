"""Writing so that a reader, or the next boot, sees the old state or the new one and nothing between.

Source of the method: write beside the target, ``fsync`` the file, rename, ``fsync`` the folder; renames that
must not replace, or that swap two folders, are ``renameat2(2)`` with ``RENAME_NOREPLACE`` and ``RENAME_EXCHANGE``.
A rename across mounts fails and stays failed: copying instead would not be atomic.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from trtd.errors import EnvironmentMissing, RegistryError, StorageError, TrtdError
from trtd.store.failpoint import failpoint

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

_CAUSES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "free space or run `trtd gc`, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free space, raise the quota or run `trtd gc`, then try again"),
    errno.EROFS: ("the file system is read-only", "remount it writable; after a disk error `dmesg` says why it is so"),
    errno.EIO: ("the disk failed to read or write", "look into `dmesg` and the disk's health before trying again"),
    errno.EACCES: ("permission denied", "run as the user who owns the registry, or mend the owner with chown"),
    errno.EPERM: ("the operation is not permitted", "run as the registry's owner; `lsattr` shows frozen files"),
    errno.EXDEV: (
        "the two ends lie on different mounts",
        "keep the whole registry on one mount: no bind mount, volume or overlay layer inside it",
    ),
    errno.EMFILE: ("this process has too many files open", "raise the limit with `ulimit -n`"),
    errno.ENOSYS: ("the kernel has no renameat2", "use Linux 3.15 or later"),
    errno.EINVAL: ("the file system cannot do it", "keep the registry on a local ext4, xfs, btrfs or tmpfs"),
}


def storage_error(error: OSError, what: str, where: Path | str) -> TrtdError:
    """The error tree's word for an ``OSError`` met while trying to ``what`` at ``where``."""
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        hint = "published and stored things are never replaced; look at what is there"
        return RegistryError(f"could not {what}: something is already there", hint=hint, where=str(where))
    cause, hint = _CAUSES.get(error.errno or 0, (error.strerror or str(error), "check the path, then try again"))
    return StorageError(f"could not {what}: {cause}", hint=hint, where=str(where))


@contextlib.contextmanager
def storage_errors(what: str, where: Path | str) -> Iterator[None]:
    """Raise an ``OSError`` from inside as :func:`storage_error` words it."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what, where) from error


def write_file(path: Path, data: bytes, *, by_way_of: Path | None = None) -> None:
    """Put ``data`` at ``path``, replacing what is there, all or nothing, and on disk when this returns.

    Args:
        by_way_of: a folder on the same mount to write it in first, where what a killed process leaves does no harm;
            ``None``: the one that it is put into.

    Raises:
        StorageError: the disk refused; the old file is whole and no temporary file is left.
    """
    temporary = (by_way_of or path.parent) / f".{path.name}.{secrets.token_hex(6)}.tmp"
    with storage_errors("write the file", path):
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                failpoint("write.written")
                os.fsync(file.fileno())
            failpoint("write.synced")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def fsync_tree(folder: Path) -> None:
    """Flush every plain file and folder under ``folder``, and the folder itself. Symlinks are passed over."""
    with storage_errors("flush the files to disk", folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    fsync_tree(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    _fsync(entry.path, os.O_NOFOLLOW)
        fsync_folder(folder)


def fsync_folder(folder: Path) -> None:
    """Flush the names in ``folder``: a rename is on disk only after this."""
    with storage_errors("flush the folder to disk", folder):
        _fsync(folder, os.O_DIRECTORY)


def _fsync(path: Path | str, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_noreplace(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that nobody has; on disk when this returns.

    Raises:
        RegistryError: ``target`` exists, were it an empty folder.
        StorageError: the disk refused, or the ends lie on different mounts.
    """
    _renameat2(source, target, _RENAME_NOREPLACE, f"rename {source} to its final name")
    _fsync_parents(source, target)


def rename_exchange(one: Path, other: Path) -> None:
    """Swap two existing files or folders in one step; on disk when this returns.

    Raises:
        StorageError: the disk refused, one of them is not there, or they lie on different mounts.
    """
    _renameat2(one, other, _RENAME_EXCHANGE, f"swap {one} with it")
    _fsync_parents(one, other)


def _fsync_parents(one: Path, other: Path) -> None:
    for folder in {one.parent, other.parent}:
        fsync_folder(folder)


def _renameat2(source: Path, target: Path, flags: int, what: str) -> None:
    call = _libc_renameat2()
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise storage_error(OSError(number, os.strerror(number)), what, target)


@lru_cache(maxsize=1)
def _libc_renameat2() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError as error:
        hint = "run on Linux with glibc 2.28 or later, or musl 1.2.6 or later"
        raise EnvironmentMissing("the C library has no renameat2, which publishing needs", hint=hint) from error
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call


def on_one_mount(*paths: Path) -> bool:
    """Whether files can be renamed between these existing paths, bind mounts of one file system told apart."""
    return len({_mount(path) for path in paths}) == 1


def _mount(path: Path) -> str:
    with storage_errors("look up the mount", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            device = os.fstat(descriptor).st_dev
            facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
        finally:
            os.close(descriptor)
    return f"{device}:{facts[facts.index('mnt_id:') + 1]}"
