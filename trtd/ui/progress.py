"""Shows stages as they run: bars on a terminal, one line for each start and end in a pipe, nothing if disabled."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Literal, Protocol, TextIO

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from trtd.ui.text import Screen

_TENTHS_S, _MINUTE_S, _HOUR_S = 10, 60, 3600
_ROOM_FOR_NOTE = 100  # terminal columns


class StageEvent(Protocol):
    """How far a stage is: ``done`` of ``total`` (``None``: not known), and a short note on what it does now."""

    @property
    def stage(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def note(self) -> str: ...


class StageProgress:
    """Listens to stages; a context manager. Its methods may be called from several threads.

    Args:
        stderr: where to show it; standard output is left to results.
        enabled: ``False`` (with ``--json`` or ``--quiet``) shows nothing.
        width: columns; ``None`` asks the terminal.
    """

    def __init__(self, stderr: TextIO, *, enabled: bool = True, width: int | None = None) -> None:
        self._screen = Screen(stderr, width=width)
        self._enabled = enabled
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> StageProgress:
        if self._enabled and self._screen.terminal and not self._screen.console.is_dumb_terminal:
            self._bars = _bars(self._screen)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def stage_started(self, subject: str, stage: str) -> None:
        """``stage`` of ``subject`` (a spec's name) runs from now on."""
        if self._bars is None:
            self._say(f"{subject}: {stage} started")
        else:
            self._task(self._bars, subject, stage)

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        """It goes on once another process leaves it what it needs; a terminal keeps the line, above the bars."""
        self._say(f"{subject}: {stage} waits, {reason}")

    def progress(self, subject: str, event: StageEvent) -> None:
        """``done`` counts from the stage's start. A pipe does not hear of it."""
        if self._bars is not None:
            task = self._task(self._bars, subject, event.stage)
            self._bars.update(task, completed=event.done, total=event.total, note=event.note)

    def stage_finished(self, subject: str, stage: str, seconds: float, cached: bool = False) -> None:
        """``cached``: nothing ran, an earlier result with the same inputs was taken."""
        self._end(subject, stage, "cached" if cached else f"finished in {duration(seconds)}", "✓", "green")

    def stage_failed(self, subject: str, stage: str, seconds: float) -> None:
        """The error itself is shown by whoever catches it."""
        self._end(subject, stage, f"failed after {duration(seconds)}", "✗", "bold red")

    def _task(self, bars: Progress, subject: str, stage: str) -> TaskID:
        with self._lock:
            key = (subject, stage)
            if key not in self._tasks:
                self._tasks[key] = bars.add_task(stage, total=None, subject=subject, note="")
            return self._tasks[key]

    def _end(self, subject: str, stage: str, how: str, sign: str, style: str) -> None:
        with self._lock:
            task = self._tasks.pop((subject, stage), None)
        if self._bars is None:
            self._say(f"{subject}: {stage} {how}")
            return
        if task is not None:
            self._bars.remove_task(task)
        screen = self._screen
        name = screen.foreign(f"{subject}: {stage} ")
        screen.console.print(Text.assemble(screen.own(f"{sign} ", style), name, (how, "dim")), soft_wrap=True)

    def _say(self, line: str) -> None:
        if self._enabled:
            with self._lock:
                self._screen.line(line)
                self._screen.file.flush()


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3:05 min``, ``1:02:09 h``."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s" if seconds < _TENTHS_S else f"{int(seconds)} s"
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    if seconds < _HOUR_S:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // _MINUTE_S}:{minutes % _MINUTE_S:02d}:{rest:02d} h"


def _bars(screen: Screen) -> Progress:
    spinner = SpinnerColumn("dots" if screen.unicode else "line")
    columns: list[ProgressColumn] = [
        spinner,
        _Label(screen),
        BarColumn(20, complete_style="cyan", finished_style="green"),
        _Count(),
        _Clock(screen),
    ]
    if screen.console.width >= _ROOM_FOR_NOTE:
        columns.append(_Note(screen))
    # Live output must not swallow what is printed to standard output: results belong there.
    own_stream = screen.file is sys.stderr
    return Progress(*columns, console=screen.console, transient=True, redirect_stdout=False, redirect_stderr=own_stream)


def _cut(screen: Screen) -> Literal["ellipsis", "crop"]:
    return "ellipsis" if screen.unicode else "crop"


class _Label(ProgressColumn):
    """Subject and stage; folds rather than push the bar out."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(Column(overflow=_cut(screen), no_wrap=True, max_width=max(screen.console.width - 56, 12)))
        self._screen = screen

    def render(self, task: Task) -> Text:
        subject = self._screen.foreign(task.fields["subject"], "bold")
        return Text.assemble(subject, ": ", self._screen.foreign(task.description))


class _Count(ProgressColumn):
    """``12/500``; ``12`` while the total is not known."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(f"{task.completed:.0f}" if task.completed else "")
        return Text(f"{task.completed:.0f}/{task.total:.0f}")


class _Clock(ProgressColumn):
    """Elapsed and, once it can be told, remaining time."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def render(self, task: Task) -> Text:
        shown = Text(duration(task.elapsed or 0.0))
        if task.time_remaining is not None and task.total:
            shown.append_text(self._screen.own(f" · {duration(task.time_remaining)} left", "cyan"))
        return shown


class _Note(ProgressColumn):
    """What the stage says it does."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(Column(overflow=_cut(screen), no_wrap=True))
        self._screen = screen

    def render(self, task: Task) -> Text:
        return self._screen.foreign(task.fields["note"] or "", "dim")
