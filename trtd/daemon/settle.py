"""When files count: only after they have been still for a while and nobody holds them open for writing.

Stillness is what two looks have in common, measured by a clock that never jumps. Dates of files decide nothing: a copy
may bring its own, and the wall clock may be set.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Settling(Generic[Value]):
    """Something that is being waited for until it has kept one value for ``settle_s``."""

    __slots__ = ("_settle_s", "_since_mono_s", "_value")

    def __init__(self, settle_s: float, value: Value, now_mono_s: float) -> None:
        self._settle_s = settle_s
        self._value = value
        self._since_mono_s = now_mono_s

    def is_still(self, value: Value, now_mono_s: float) -> bool:
        """Whether the value, looked at now, has been the same for long enough."""
        if value != self._value:
            self._value, self._since_mono_s = value, now_mono_s
        return now_mono_s >= self.due_mono_s

    @property
    def due_mono_s(self) -> float:
        """When it will have been still for long enough if nothing changes."""
        return self._since_mono_s + self._settle_s


def is_open_for_writing(handle: int) -> bool:
    """Whether any process has the file open for writing; False where that cannot be known.

    Source: fcntl(2), "Leases": a read lease is refused with EAGAIN while the file is open for writing. It wants the
    file's owner or CAP_LEASE, and a file system that knows leases.

    Args:
        handle: the file, opened read-only.
    """
    try:
        # Who opens the file for writing while the lease is held makes the kernel send a signal, SIGIO by default, which
        # ends a process that does not expect it. SIGURG is ignored unless somebody asks for it.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def is_being_written(path: str) -> bool:
    """:func:`is_open_for_writing` for a regular file by its name; False if it cannot be opened."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_open_for_writing(handle)
    finally:
        os.close(handle)
