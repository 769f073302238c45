"""A terminal taken over for a full-screen view, and given back as it was, whatever happens."""

from __future__ import annotations

import errno
import os
import select
import termios
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

# Alternate screen, cursor hidden, no wrapping at the right edge (a character that the terminal thinks wider than we do
# must not push a line down), and the order of characters as sent (ECMA-48 BDSM: terminals that reorder right-to-left
# text would move the columns beside it).
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[8l\x1b[0m\x1b[2J\x1b[H"
_LEAVE = b"\x1b[?2026l\x1b[0m\x1b[2J\x1b[H\x1b[8h\x1b[?7h\x1b[?25h\x1b[?1049l"
_LEAVE_DEADLINE_S = 0.5
_SMALL_BYTES = 256  # what a terminal that says "writable" takes at once
_FALLBACK_SIZE = (80, 24)
_KEY_BYTES = 4096


class Hangup(Exception):
    """The terminal is gone."""


class Terminal:
    """A context manager. Writing never blocks: what the terminal does not take now waits in :attr:`pending`.

    Args:
        file: where the picture goes.
        keys: where keys come from; one that is not a terminal is not read.
    """

    def __init__(self, file: TextIO, keys: TextIO) -> None:
        file.flush()
        self._shared_out = file.fileno()
        self._out, self._is_own = _reopened(self._shared_out)
        self._keys = keys.fileno() if keys.isatty() else None
        self._modes: list[Any] | None = None
        self.pending = b""

    def __enter__(self) -> Terminal:
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
        try:
            self.take()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def take(self) -> None:
        """Take the terminal over; again after it was given back, or after others may have changed it."""
        # The modes first: in the background this stops us before anything is written over the shell's screen.
        if self._keys is not None and self._modes is not None:
            _set_modes(self._keys, _cbreak(self._modes))
        self.pending = _ENTER
        self.flush()

    def give_back(self) -> None:
        """Leave the terminal as it was found. A terminal that takes nothing is left after half a second."""
        self.pending = _LEAVE
        deadline_s = time.monotonic() + _LEAVE_DEADLINE_S
        with suppress(Hangup):
            while self.pending and (left_s := deadline_s - time.monotonic()) > 0:
                select.select([], [self._out], [], left_s)
                self.flush()
        if self._keys is not None and self._modes is not None:
            with suppress(termios.error):
                _set_modes(self._keys, self._modes)

    def close(self) -> None:
        self.give_back()
        if self._is_own:
            os.close(self._out)

    @property
    def readable(self) -> list[int]:
        """What to wait for keys on."""
        return [] if self._keys is None else [self._keys]

    @property
    def writable(self) -> list[int]:
        """What to wait for room on, while something is pending."""
        return [self._out] if self.pending else []

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        with suppress(OSError):
            found = os.get_terminal_size(self._shared_out)
            if found.columns > 0 and found.lines > 0:
                return found.columns, found.lines
        return _FALLBACK_SIZE

    def show(self, data: bytes) -> None:
        """Write what can be written now."""
        self.pending += data
        self.flush()

    def flush(self) -> None:
        """Go on writing what is pending.

        Raises:
            Hangup: there is no terminal any more.
        """
        while self.pending:
            chunk = self.pending if self._is_own else self.pending[:_SMALL_BYTES]
            if not self._is_own and not select.select([], [self._out], [], 0)[1]:
                return
            try:
                written = os.write(self._out, chunk)
            except BlockingIOError:
                return
            except OSError as error:
                raise Hangup from error
            self.pending = self.pending[written:]

    def read_keys(self) -> bytes:
        """Bytes of keys that were pressed.

        Raises:
            Hangup: there is no terminal any more.
        """
        if self._keys is None:
            return b""
        try:
            data = os.read(self._keys, _KEY_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Hangup from error
        if not data:
            raise Hangup
        return data


def fits(file: TextIO) -> bool:
    """Whether a full-screen view can be shown on ``file``: a terminal whose cursor can be moved."""
    return file.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def _reopened(descriptor: int) -> tuple[int, bool]:
    """The terminal opened anew, so that not to block is no matter of the shell's, which shares the old one's flags."""
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), True
    except OSError:  # after su it belongs to somebody else; in a container it may have no name
        return descriptor, False


def _cbreak(modes: list[Any]) -> list[Any]:
    """Keys come at once and are not echoed; Ctrl-C and Ctrl-Z stay signals, Ctrl-S freezes nothing."""
    changed = [*modes[:6], list(modes[6])]
    changed[0] &= ~(termios.IXON | termios.IXOFF)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = b"\x01", b"\x00"
    return changed


def _set_modes(descriptor: int, modes: list[Any]) -> None:
    """At once: waiting for the output to drain could take for ever. A signal (that of ``fg``) may interrupt it."""
    while True:
        try:
            termios.tcsetattr(descriptor, termios.TCSANOW, modes)
            return
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise
