"""The daemon's end of the pipe that a build process tells its events on. Believes nothing that comes out of it."""

from __future__ import annotations

import json
import os
from typing import Any

CHUNK_BYTES = 1 << 16
LINE_LIMIT_BYTES = 1 << 20
BURST_BYTES = 4 << 20
BYTES_PER_S = 1 << 18
"""A build tells a few kilobytes a second, and its outcome once."""
LINE_BYTES = 1 << 9
"""What a line counts beside its bytes: taking one apart costs more than reading it."""


class EventPipe:
    """Turns whatever bytes have come into events, without ever waiting.

    Attributes:
        fd: the read end; it is closed by :meth:`close`.
        ended: nothing more will come.
        flooded: more came than any build has to say.
        garbage: lines that were no events.
    """

    def __init__(self, fd: int, now_mono_s: float) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.ended = False
        self.flooded = False
        self.garbage = 0
        self._rest = b""
        self._allowance = float(BURST_BYTES)
        self._last_mono_s = now_mono_s

    def read(self, now_mono_s: float) -> list[dict[str, Any]]:
        """Events in the next piece of at most ``CHUNK_BYTES``; an empty list if there is nothing now."""
        return self._next(now_mono_s) or []

    def drain(self, now_mono_s: float) -> list[dict[str, Any]]:
        """All that is in the pipe now, not waiting for its end: a stray process may hold it open."""
        events: list[dict[str, Any]] = []
        while (found := self._next(now_mono_s)) is not None:
            events += found
        return events

    def _next(self, now_mono_s: float) -> list[dict[str, Any]] | None:
        if self.ended or self.flooded:
            return None
        try:
            chunk = os.read(self.fd, CHUNK_BYTES)
        except BlockingIOError:
            return None
        if not chunk:
            self.ended = True
            return None
        self._allowance = min(BURST_BYTES, self._allowance + (now_mono_s - self._last_mono_s) * BYTES_PER_S)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._allowance -= len(chunk) + len(lines) * LINE_BYTES
        self._last_mono_s = now_mono_s
        self.flooded = self._allowance < 0
        if self.flooded:  # not even looked at: a piece of nothing but line ends would keep the daemon busy
            return []
        if len(self._rest) > LINE_LIMIT_BYTES:
            self._rest = b""
            self.garbage += 1
        return [event for event in map(self._parse, lines) if event is not None]

    def close(self) -> None:
        os.close(self.fd)

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
        self.garbage += 1
        return None
