"""Programs inside real pseudo terminals, and a stand-in for the screen of a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

WATCHED = Path(__file__).with_name("watched.py")
ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"
DEADLINE_S = 60.0
_SEQUENCE = re.compile(r"\x1b(?:\[([0-9;?]*)([A-Za-z])|(.))|([^\x1b])", re.DOTALL)


class Session:
    """A program whose controlling terminal is a pseudo terminal; a context manager that leaves no process."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (80, 24), command: list[str] | None = None, **environment: str
    ) -> None:
        self.master, self.slave = os.openpty()
        self.resize(size)
        self.before = termios.tcgetattr(self.slave)
        variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "COLORTERM")}
        self.process = subprocess.Popen(
            command or [sys.executable, str(WATCHED), *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env=variables | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment,
        )
        self.output = b""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)

    def resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read(self, timeout_s: float = 0.1) -> None:
        if select.select([self.master], [], [], timeout_s)[0]:
            self.output += os.read(self.master, 65536)

    def wait_for(self, text: str | bytes, *, after: int = 0) -> int:
        """Read until ``text`` has come; where in the output it ends. Colours do not count if ``text`` is a string."""
        wanted = text.encode() if isinstance(text, str) else text
        self.wait_until(lambda: wanted in self._output(text, after), f"{wanted!r} did not come")
        return len(self.output)

    def wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"{complaint}: {self.output[-3000:]!r}"
            self.read()

    def end(self) -> int:
        """Read until the program has ended; its exit status."""
        self.wait_until(lambda: self.process.poll() is not None, "the program goes on")
        self.read()
        return self.process.returncode

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def _output(self, text: str | bytes, after: int) -> bytes:
        output = self.output[after:]
        return re.sub(rb"\x1b\[[0-9;]*[mG]", b"", output) if isinstance(text, str) else output


class StandInScreen:
    """As much of a terminal's screen as the dashboard makes use of, with widths of characters of its own.

    Args:
        width_of: columns that this terminal gives to a character.
    """

    def __init__(self, size: tuple[int, int], width_of: Callable[[str], int]) -> None:
        self.columns, self.rows = size
        self._width_of = width_of
        self._cells = [[" "] * self.columns for _ in range(self.rows)]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for match in _SEQUENCE.finditer(text):
            parameters, command, other, char = match.groups()
            if char is not None:
                self._put(char)
            else:
                assert other is None, f"an escape sequence that the dashboard has no use for: {match[0]!r}"
                self._obey(parameters, command)

    @property
    def lines(self) -> list[str]:
        return ["".join(cells) for cells in self._cells]

    def cell(self, row: int, column: int) -> str:
        return self._cells[row][column]

    def _put(self, char: str) -> None:
        assert char.isprintable(), f"a character that acts: {char!r}"
        for _ in range(self._width_of(char)):
            if self._column < self.columns:
                self._cells[self._row][self._column] = char
            self._column += 1

    def _obey(self, parameters: str, command: str) -> None:
        if command == "H":
            row, _, column = (parameters or "1;1").partition(";")
            self._row, self._column = int(row) - 1, int(column) - 1
        elif command == "G":
            self._column = int(parameters) - 1
        elif command == "K" and parameters == "2":
            self._cells[self._row] = [" "] * self.columns
        elif command == "J" and parameters == "2":
            self._cells = [[" "] * self.columns for _ in range(self.rows)]
        else:
            assert command == "m" or (command in "hl" and parameters == "?2026"), f"unknown: {parameters}{command}"
