"""The loop: read four times a second, draw what changed, listen to keys and signals."""

from __future__ import annotations

import math
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

from rich.console import Console

from trtd.errors import TrtdError, UsageError
from trtd.status import Snapshot
from trtd.ui.dashboard.keys import ESCAPE_S, KeyReader
from trtd.ui.dashboard.loading import Loader, ReadHistory, ReadLog, ReadReport
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.paint import Painter
from trtd.ui.dashboard.picture import draw
from trtd.ui.dashboard.react import on_key
from trtd.ui.dashboard.scene import Context
from trtd.ui.dashboard.signals import QUITTING, Signals, stop_self
from trtd.ui.dashboard.terminal import Hangup, Terminal, fits
from trtd.ui.dashboard.view import View

PERIOD_S = 0.25
_SIGNALLED = 128
_GONE = _SIGNALLED + signal.SIGHUP

Read = Callable[[], Snapshot]


def watch(
    read: Read,
    *,
    report: ReadReport,
    log_tail: ReadLog,
    history: ReadHistory | None = None,
    registry: str = "",
    file: TextIO | None = None,
    keys: TextIO | None = None,
) -> int:
    """Show the daemon's state on a terminal until somebody has seen enough. Call it from the main thread.

    Args:
        read: the state as of now; called four times a second, so the same object if nothing changed is best. What it
            raises as :class:`TrtdError` is shown above the last state that could be read.
        report: of an engine's version; with ``None``, of its last build that was not published, if there is one.
        log_tail: last lines of a subject's log.
        history: events of a subject by its key, newest last; ``None``: those of the snapshot do.
        registry: its folder, to name it where no daemon has ever run.
        file: a terminal; standard output.
        keys: standard input; one that is not a terminal is not read, and Ctrl-C leaves.

    Returns:
        The exit status: 0 after ``q`` and Ctrl-C, 128 and the signal's number after any other signal.

    Raises:
        UsageError: ``file`` is no terminal on which a cursor can be moved.
    """
    file, keys = file or sys.stdout, keys or sys.stdin
    if not fits(file):
        raise UsageError(
            "a full-screen view needs a terminal that can move its cursor",
            hint="without --watch, trtd status prints the state once",
        )
    loader = Loader(report, log_tail, history)
    try:
        with Signals() as signals, Terminal(file, keys) as terminal:
            return _Loop(read, loader, registry, file, terminal, signals).run()
    except Hangup:
        return _GONE


@dataclass(frozen=True)
class _Shown:
    """What the terminal shows. Snapshots are compared by identity: they may hold thousands of subjects."""

    snapshot: Snapshot
    context: Context
    view: View
    size: tuple[int, int]
    moment: float

    def is_like(self, other: _Shown | None) -> bool:
        return (
            other is not None
            and self.snapshot is other.snapshot
            and self.context is other.context
            and (self.view, self.size, self.moment) == (other.view, other.size, other.moment)
        )


class _Loop:
    """State of a running view."""

    def __init__(
        self, read: Read, loader: Loader, registry: str, file: TextIO, terminal: Terminal, signals: Signals
    ) -> None:
        console = Console(file=file, force_terminal=True, markup=False, highlight=False, emoji=False)
        self._read, self._loader = read, loader
        self._terminal, self._signals = terminal, signals
        self._painter = Painter(console)
        self._keys = KeyReader()
        self._escape_due_s = math.inf
        self._context = Context(Look.of(console), registry)
        self._snapshot = Snapshot(daemon=None, alive=False)
        self._view = View()
        self._shown: _Shown | None = None

    def run(self) -> int:
        next_read_s = 0.0
        while True:
            mono_s = time.monotonic()
            if mono_s >= next_read_s:
                self._look()
                next_read_s = max(next_read_s + PERIOD_S, mono_s + PERIOD_S / 2)
            self._draw(mono_s)
            status = self._wait(max(0.0, min(next_read_s, self._escape_due_s) - time.monotonic()))
            if status is not None:
                return status

    def _look(self) -> None:
        try:
            snapshot, trouble = self._read(), ""
        except TrtdError as error:
            snapshot, trouble = self._snapshot, f"not as of now: {error}"
        if snapshot is not self._snapshot or trouble != self._context.trouble:
            pace = self._context.pace.seen(snapshot, time.time())
            self._context = replace(self._context, trouble=trouble, pace=pace)
        self._snapshot = snapshot

    def _draw(self, mono_s: float) -> None:
        """Draw if anything changed and the terminal has taken what came before."""
        if self._terminal.pending:
            return
        snapshot, size, now = self._snapshot, self._terminal.size(), time.time()
        detail = self._loader.detail(snapshot, self._view, mono_s)
        if detail is not self._context.detail:
            self._context = replace(self._context, detail=detail)
        # Between two seconds only what is being built moves.
        shown = _Shown(snapshot, self._context, self._view, size, now if snapshot.live else now // 1)
        if shown.is_like(self._shown):
            return
        picture = draw(snapshot, self._view, size, now, self._context)
        self._view = picture.view
        self._shown = replace(shown, view=picture.view)
        self._terminal.show(self._painter.paint(picture))

    def _wait(self, timeout_s: float) -> int | None:
        """Wait for keys, signals, room on the terminal, or the next look; the exit status if it is over."""
        terminal, signals = self._terminal, self._signals
        readable, writable, _ = select.select([signals.fileno(), *terminal.readable], terminal.writable, [], timeout_s)
        if signals.fileno() in readable:
            for number in signals.take():
                if (status := self._on_signal(number)) is not None:
                    return status
        if any(descriptor in readable for descriptor in terminal.readable):
            self._press(self._keys.feed(terminal.read_keys()))
            self._escape_due_s = time.monotonic() + ESCAPE_S if self._keys.waits else math.inf
        elif time.monotonic() >= self._escape_due_s:
            self._press(self._keys.flush())
            self._escape_due_s = math.inf
        if writable:
            terminal.flush()
        return 0 if self._view.left else None

    def _press(self, keys: list[str]) -> None:
        for key in keys:
            if key == "ctrl-l":
                self._repaint()
            self._view = on_key(self._view, key, self._snapshot)

    def _on_signal(self, number: int) -> int | None:
        if number in QUITTING:
            return 0 if number == signal.SIGINT else _SIGNALLED + number
        if number == signal.SIGTSTP:
            self._terminal.give_back()
            stop_self()
        if number in (signal.SIGTSTP, signal.SIGCONT):
            self._terminal.take()
        self._repaint()
        return None

    def _repaint(self) -> None:
        self._painter.forget()
        self._shown = None
