"""Who is told what the pipeline does."""

from __future__ import annotations

from typing import Protocol

from trtd.pipeline.progress import ProgressEvent


class Listener(Protocol):
    """Told of every stage of every subject (an engine's name)."""

    def stage_started(self, subject: str, stage: str) -> None: ...

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        """A stage that has started goes on once another process leaves it what it needs."""

    def progress(self, subject: str, event: ProgressEvent) -> None: ...

    def stage_finished(self, subject: str, stage: str, seconds: float, cached: bool = False) -> None: ...

    def stage_failed(self, subject: str, stage: str, seconds: float) -> None: ...


class Silent:
    """Listens to nothing."""

    def stage_started(self, subject: str, stage: str) -> None:
        pass

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        pass

    def progress(self, subject: str, event: ProgressEvent) -> None:
        pass

    def stage_finished(self, subject: str, stage: str, seconds: float, cached: bool = False) -> None:
        pass

    def stage_failed(self, subject: str, stage: str, seconds: float) -> None:
        pass
