"""Progress of a stage: reported inside the worker, carried over a pipe as JSON lines, read by the launcher."""

from __future__ import annotations

import json
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

from trtd.pipeline.log import clean

Item = TypeVar("Item")

INTERVAL_S = 0.1
BURST = 10
NOTE_LIMIT = 300  # characters; keeps a line, escapes included, below PIPE_BUF so that writes are atomic
LINE_LIMIT_BYTES = 65536
CHUNK_BYTES = 65536


@dataclass(frozen=True)
class ProgressEvent:
    """How far a stage is: ``done`` of ``total`` units (``None``: nobody knows how many), and on what."""

    stage: str
    done: int
    total: int | None
    note: str = ""


Send = Callable[[ProgressEvent], None]


class Progress:
    """What a stage reports its progress with; never fails and never floods.

    Updates pass at 10 Hz. The end of a step (``done >= total``) always passes; the first event of a step (another
    total or note than before) passes at once while a burst allowance of ten, refilled at 10 Hz, lasts.
    """

    def __init__(self, stage: str, send: Send, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stage = stage
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._last: ProgressEvent | None = None
        self._last_s = clock()
        self._burst = float(BURST)

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        total = None if total is None else int(total)
        event = ProgressEvent(self._stage, int(done), total, note[:NOTE_LIMIT])
        with self._lock:
            if self._passes(event):
                self._send(event)

    def _passes(self, event: ProgressEvent) -> bool:
        last, now_s = self._last, self._clock()
        if event == last:
            return False
        waited_s = now_s - self._last_s
        burst = min(float(BURST), self._burst + waited_s / INTERVAL_S)
        starts = last is None or (event.total, event.note) != (last.total, last.note)
        ends = event.total is not None and event.done >= event.total
        if not (ends or waited_s >= INTERVAL_S or (starts and burst >= 1)):
            return False
        self._last, self._last_s, self._burst = event, now_s, max(0.0, burst - 1)
        return True

    def track(self, items: Iterable[Item], total: int | None = None, note: str = "") -> Iterator[Item]:
        """Pass ``items`` on and count them. ``total`` defaults to ``len(items)`` where there is such a thing."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = 0
        self(done, total, note)
        for item in items:
            yield item
            done += 1
            self(done, total, note)
        if total is None:
            self(done, done, note)

    def log(self, text: str) -> None:
        """Write a line to the stage's log."""
        print(text, file=sys.stderr, flush=True)


def pipe_sender(fd: int) -> Send:
    """Send events as JSON lines over a pipe. Once nobody reads any more, events are dropped."""
    os.set_inheritable(fd, False)
    broken = False

    def send(event: ProgressEvent) -> None:
        nonlocal broken
        if broken:
            return
        line = json.dumps({"done": event.done, "total": event.total, "note": event.note}) + "\n"
        try:
            os.write(fd, line.encode())
        except OSError:
            broken = True

    return send


def print_sender(event: ProgressEvent) -> None:
    """Print an event to stderr, for workers that are run by hand."""
    total = "" if event.total is None else f"/{event.total}"
    print(f"{event.stage}: {event.done}{total} {event.note}".rstrip(), file=sys.stderr, flush=True)


def parse_event(stage: str, line: bytes) -> ProgressEvent | None:
    """The event that a line holds; ``None`` if it holds none, which is no reason to fail a stage."""
    try:
        return event_from(stage, json.loads(line))
    except (ValueError, RecursionError):
        return None


def event_from(stage: str, data: Any) -> ProgressEvent | None:
    """The event that plain data holds; ``None`` if it holds none."""
    try:
        done, total, note = data["done"], data["total"], data["note"]
    except (KeyError, TypeError):
        return None
    if not (type(done) is int and (total is None or type(total) is int) and isinstance(note, str)):
        return None
    return ProgressEvent(stage, done, total, clean(note).replace("\n", " ")[:NOTE_LIMIT])


class EventReader:
    """The launcher's end of the pipe: turns whatever bytes have come into events, in order."""

    def __init__(self, stage: str, fd: int, on_event: Send | None) -> None:
        self._stage = stage
        self._fd = fd
        self._on_event = on_event
        self._rest = b""
        os.set_blocking(fd, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)

    def wait(self, timeout_s: float) -> None:
        """Wait until something has come and handle one chunk of it; sleep out the time if the pipe was closed."""
        if self._selector.select(timeout_s):
            self._read()

    def drain(self) -> None:
        """Handle all that is in the pipe now, without waiting for its end: a stray process may hold it open."""
        while self._selector.get_map() and self._read():
            pass

    def close(self) -> None:
        self._selector.close()
        os.close(self._fd)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(self._fd)
            return False
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LINE_LIMIT_BYTES else b""
        for line in lines:
            event = parse_event(self._stage, line)
            if event is not None and self._on_event is not None:
                self._on_event(event)
        return True
