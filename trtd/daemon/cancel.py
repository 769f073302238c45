"""SIGTERM in a build process: something to look at, or to be interrupted by."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Cancelled(BaseException):
    """Somebody asked this process to stop while it only read. Not an ``Exception``: nobody in between may catch it."""


class Cancel:
    """Whether this process was asked to stop.

    Attributes:
        event: set when it was.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._breakable = False

    def listen(self) -> None:
        """Take SIGTERM from now on."""
        signal.signal(signal.SIGTERM, self._on_signal)

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """While the context lasts, SIGTERM raises :class:`Cancelled` wherever the code is; so does an earlier one."""
        self._breakable = True
        try:
            if self.event.is_set():
                raise Cancelled
            yield
        finally:
            self._breakable = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.event.set()
        if self._breakable:
            self._breakable = False
            raise Cancelled
