"""Runs build processes to their end, as the daemon's loop does."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from trtd.daemon.cgroup import Groups
from trtd.daemon.children import Children, Progressed
from trtd.daemon.messages import Finished, Start
from trtd.daemon.orphans import marked, marker
from trtd.daemon.wire import BuilderJob
from trtd.registry.layout import Registry

PATIENCE_S = 120.0
FOLDER = Path(__file__).parent

_attempts = count(1)


@dataclass
class Nursery:
    """Children, and all that they have told."""

    registry: Registry
    children: Children
    progress: list[Progressed] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)

    def start(self, spec: Path, *, stalled_plans: tuple[str, ...] = (), **job: Any) -> Start:
        """Start a build of a spec; ``job`` are further fields of the :class:`BuilderJob`."""
        start = Start(spec.name, next(_attempts), "cpu", ("a test wants it",), stalled_plans)
        fields: dict[str, Any] = {"threads": 1, "roots": (self.registry.root.parent,)} | job
        self.children.start(start, BuilderJob(spec, self.registry.root, **fields), time.monotonic())
        return start

    def step(self, longest_s: float = 0.5) -> None:
        """Wait for something and take it in."""
        due_s, now_s = self.children.next_due(), time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self.children, selectors.EVENT_READ)
            selector.select(longest_s if due_s is None else max(0.0, min(longest_s, due_s - now_s)))
        now_s = time.monotonic()
        for news in [*self.children.handle(now_s), *self.children.poll(now_s)]:
            if isinstance(news, Progressed):
                self.progress.append(news)
            else:
                self.finished.append(news)

    def until(self, condition: Callable[[], object], what: str) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up_s, f"waited in vain until {what}; heard {self.progress[-3:]}"
            self.step()

    def finish(self, start: Start) -> Finished:
        """Wait for the end of a build. Nothing of it may run then, and it must not be told twice."""
        self.until(lambda: self._ends(start), f"{start.key} ended")
        (finished,) = self._ends(start)
        assert finished.key == start.key
        assert start.key not in self.children.running
        assert processes_of(start.attempt) == []
        return finished

    def reaches(self, stage: str) -> None:
        """Wait until a build has begun a stage."""
        self.until(lambda: any(p.stage.stage == stage for p in self.progress), f"{stage} began")

    def run(self, spec: Path, **job: Any) -> Finished:
        return self.finish(self.start(spec, **job))

    def _ends(self, start: Start) -> list[Finished]:
        return [finished for finished in self.finished if finished.attempt == start.attempt]


@contextmanager
def nursery(registry: Registry, groups: Groups | None = None, **options: Any) -> Iterator[Nursery]:
    """A nursery that leaves nothing behind."""
    children = Children(registry, marker(registry.root), groups, **options)
    try:
        yield Nursery(registry, children)
    finally:
        children.kill_all()
        children.close()


def processes_of(attempt: int) -> list[int]:
    """Living processes of an attempt of this process's."""
    own, number = str(os.getpid()).encode(), str(attempt).encode()
    return [p.pid for p in marked(lambda p: p.daemon.split(b"|")[-2] == own and p.attempt == number)]
