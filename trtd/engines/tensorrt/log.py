"""TensorRT's own words: into the build log, warnings and errors kept; and its progress, as one number that grows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal
from weakref import WeakSet

LOG = logging.getLogger("trtd.tensorrt")
"""A stage writes all of it to its log; whoever loads an engine hears warnings, unless they listen for more."""

Tell = Callable[[int, int, str], None]
"""Told how many of how many parts are done, and of what."""

PARTS = 1000

_PLACE = re.compile(r"^\w+\.(?:cpp|cu|h):\d+: ")
# The parser says so of every tensor of no elements, such as the region of interest that Resize does not use.
_HARMLESS = ("Empty initializer",)


@dataclass(eq=False)
class Kept:
    """What TensorRT complained about since this was made: each message once, the last one last."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, kind: Literal["warnings", "errors"], message: str) -> None:
        text, place = _PLACE.sub("", message), getattr(self, kind)
        if text in place:
            place.remove(text)
        if not text.startswith(_HARMLESS):
            place.append(text)


# TensorRT takes the first logger of a process, and ignores those that come later: by module, and who listens to it.
_loggers: dict[str, tuple[Any, WeakSet[Kept]]] = {}


def listen(trt: Any) -> tuple[Any, Kept]:
    """The process's ``trt.ILogger``, which speaks to :data:`LOG`, and what it keeps from now on.

    TensorRT's messages do not say whose they are: of several engines in a process, each is told all.
    """
    if trt.__name__ not in _loggers:
        listeners: WeakSet[Kept] = WeakSet()
        _loggers[trt.__name__] = _make_logger(trt, listeners), listeners
    logger, listeners = _loggers[trt.__name__]
    kept = Kept()
    listeners.add(kept)
    return logger, kept


def _make_logger(trt: Any, listeners: WeakSet[Kept]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            kind = trt.ILogger.Severity
            level = logging.DEBUG if severity == kind.VERBOSE else logging.INFO
            if severity in (kind.INTERNAL_ERROR, kind.ERROR):
                level = logging.ERROR
                for kept in list(listeners):
                    kept.add("errors", message)
            elif severity == kind.WARNING:
                level = logging.WARNING
                for kept in list(listeners):
                    kept.add("warnings", message)
            LOG.log(level, "%s", message)

    return Logger()


def make_monitor(trt: Any, tell: Tell) -> Any:
    """A ``trt.IProgressMonitor``: phases nest, and each step of a phase is worth what its own phases do."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases = Phases(tell)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases.step(phase_name, step)
            return True  # who wants to stop the build kills its process

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

    return Monitor()


class Phases:
    """Nested phases as one fraction that never falls.

    Source: NVIDIA TensorRT API, ``IProgressMonitor``. Phases of one parent may run side by side, in several threads.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._steps: dict[str, tuple[int, int]] = {}  # done, of
        self._parents: dict[str, str | None] = {}
        self._highest = 0
        self._lock = Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._steps[name], self._parents[name] = (0, max(1, steps)), parent
            self._report(name)

    def step(self, name: str, step: int) -> None:
        with self._lock:
            if name in self._steps:
                self._steps[name] = (min(step + 1, self._steps[name][1]), self._steps[name][1])
                self._report(name)

    def finish(self, name: str) -> None:
        with self._lock:
            self._steps.pop(name, None)
            self._parents.pop(name, None)

    def _report(self, name: str) -> None:
        roots = [phase for phase, parent in self._parents.items() if parent not in self._steps]
        done = round(PARTS * self._fraction(roots[0])) if roots else 0
        self._highest = max(self._highest, min(done, PARTS))
        self._tell(self._highest, PARTS, name)

    def _fraction(self, name: str) -> float:
        done, steps = self._steps[name]
        below = max((self._fraction(p) for p, parent in self._parents.items() if parent == name), default=0.0)
        return min(1.0, (done + below) / steps)
