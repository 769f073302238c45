"""What a build process has told so far. Malformed events are counted and left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trtd.daemon.messages import Outcome
from trtd.daemon.wire import outcome_from
from trtd.pipeline.progress import event_from
from trtd.status import StageStatus


class Account:
    """The state of a build as far as it was told.

    Attributes:
        spec_digest: of the spec that was read; empty before.
        stage: where the build is; ``None`` before it told.
        outcome: ``None`` before the end.
        malformed: events that made no sense.
    """

    def __init__(self) -> None:
        self.spec_digest = ""
        self.stage: StageStatus | None = None
        self.outcome: Outcome | None = None
        self.malformed = 0
        self._logs: dict[str, str] = {}

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take in one event, as :mod:`trtd.daemon.wire` describes them; whether it says where the build is."""
        kind, engine, stage = event.get("event"), event.get("engine"), event.get("stage")
        if kind in ("stage", "progress") and isinstance(engine, str) and isinstance(stage, str):
            moved = self._moved(event, engine, stage)
            if moved is not None:
                self.stage = moved
                return True
        elif kind == "outcome":
            try:
                self.outcome = outcome_from(event.get("outcome"))
                return False
            except ValueError:
                pass
        elif kind == "spec" and isinstance(digest := event.get("digest"), str):
            self.spec_digest = digest
            return False
        elif kind == "log" and isinstance(engine, str) and isinstance(path := event.get("path"), str):
            self._logs[engine] = path
            return False
        self.malformed += 1
        return False

    def log_now(self) -> str | None:
        """The log of the engine that is being built."""
        return self._logs.get(self.stage.engine) if self.stage else None

    def log_after(self) -> str | None:
        """The log of the first engine that failed, else of the last one that has any."""
        engines = self.outcome.engines if self.outcome else ()
        names = [e.status.name for e in engines if e.failure is not None]
        names += [e.status.name for e in reversed(engines)]
        return next((self._logs[name] for name in names if name in self._logs), None)

    def _moved(self, event: Mapping[str, Any], engine: str, stage: str) -> StageStatus | None:
        last, state = self.stage, event.get("state")
        finished = last.finished if last is not None and last.engine == engine else ()
        if last is None or (last.engine, last.stage) != (engine, stage) or state == "started":
            last = StageStatus(engine, stage, time.time(), finished=finished)
        if event["event"] == "progress":
            progress = event_from(stage, event)
            if progress is None:
                return None
            return replace(last, done=progress.done, total=progress.total, note=progress.note)
        if state == "finished":
            seconds = event.get("seconds")
            took_s = float(seconds) if isinstance(seconds, int | float) else 0.0
            return replace(last, finished=(*finished, (stage, took_s, event.get("cached") is True)))
        return last if state in ("started", "failed") else None
