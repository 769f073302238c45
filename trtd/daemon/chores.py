"""Collecting garbage now and then, in a process of its own: retention, store entries that nobody asked for."""

from __future__ import annotations

import os
import subprocess
import sys

from trtd.daemon.messages import Now
from trtd.daemon.orphans import MARKER
from trtd.daemon.parts import Parts

HOUR_S = 3600.0
LOOK_S = 2.0
FIRST_S = 600.0  # after a start there is more urgent work
LOG_FILE = "gc.log"


class Chores:
    """Runs ``trtd gc``. A daemon that is killed takes it along at its next start; gc may die at any moment."""

    def __init__(self, parts: Parts, mark: str) -> None:
        self._parts = parts
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None
        self._due_mono_s: float | None = None

    def next_due(self) -> float | None:
        return self._due_mono_s

    def look(self, now: Now) -> None:
        """Start what is due, bury what has ended."""
        if self._due_mono_s is None:
            self._due_mono_s = now.mono_s + FIRST_S
        if now.mono_s < self._due_mono_s:
            return
        every_h = self._parts.config.retention.gc_every_h
        if self._process is None and every_h:
            self._start()
        if self._process is not None and (status := self._process.poll()) is None:
            self._due_mono_s = now.mono_s + LOOK_S
            return
        if self._process is not None and status:
            self._parts.log.warning("gc failed", status=status, log=str(self._parts.registry.logs / LOG_FILE))
        self._process = None
        self._due_mono_s = now.mono_s + (every_h or 1.0) * HOUR_S

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        registry = self._parts.registry
        command = [sys.executable, "-m", "trtd", "gc", "--registry", str(registry.root), "--json"]
        environment = {**os.environ, MARKER: self._mark}
        try:
            with open(registry.logs / LOG_FILE, "wb") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
                )
        except OSError as error:
            self._parts.log.warning("gc could not be started", reason=str(error))
