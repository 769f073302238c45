"""Signals as something that can be waited for, together with keys."""

from __future__ import annotations

import signal
import socket
from types import FrameType, TracebackType
from typing import Any

QUITTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
HANDLED = (*QUITTING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Signals:
    """While it is open, signals do nothing but tell of themselves. A signal that is ignored stays so (``nohup``).

    For the main thread alone.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._former: dict[signal.Signals, Any] = {}
        self._former_fd = -1

    def __enter__(self) -> Signals:
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            former = signal.getsignal(number)
            if former is not signal.SIG_IGN:
                self._former[number] = former
                signal.signal(number, _noted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former if former is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._former_fd)
        self._read.close()
        self._write.close()

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._read.fileno()

    def take(self) -> list[int]:
        """The signals that have come, oldest first."""
        try:
            return list(self._read.recv(4096))
        except BlockingIOError:
            return []


def stop_self() -> None:
    """What Ctrl-Z does to a program that handles nothing. Comes back when it is continued."""
    former = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    try:
        signal.raise_signal(signal.SIGTSTP)
    finally:
        signal.signal(signal.SIGTSTP, former)


def _noted(number: int, frame: FrameType | None) -> None:
    """The number is in the socket already; an exception from here could come at any place."""
