"""How long a stage will still take: from how far it got since its present step began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtd.status import Snapshot, StageStatus

_EARLIEST_S = 0.8


@dataclass(frozen=True)
class Step:
    """What is counted at a time: a stage may count several things, one after the other. ``done`` of it at ``at``."""

    engine: str
    stage: str
    note: str
    total: int | None
    at: float
    done: int

    def goes_on(self, stage: StageStatus) -> bool:
        same = (self.engine, self.stage, self.note, self.total) == (stage.engine, stage.stage, stage.note, stage.total)
        return same and stage.done >= self.done


@dataclass(frozen=True)
class Pace:
    """The steps that were seen to begin, by key. One that was not counts from its stage's beginning."""

    steps: Mapping[str, Step]

    def seen(self, snapshot: Snapshot, now: float) -> Pace:
        """With what the snapshot tells. Steps of builds that ended are forgotten."""
        steps: dict[str, Step] = {}
        for key, stage in (snapshot.live or {}).items():
            step = self.steps.get(key)
            if step is None:
                steps[key] = Step(stage.engine, stage.stage, stage.note, stage.total, stage.started_at, 0)
            elif step.goes_on(stage):
                steps[key] = step
            else:
                fresh = (step.engine, step.stage) != (stage.engine, stage.stage)
                at = stage.started_at if fresh else now
                steps[key] = Step(stage.engine, stage.stage, stage.note, stage.total, at, 0 if fresh else stage.done)
        return Pace(steps)

    def remaining_s(self, key: str, stage: StageStatus, now: float) -> float | None:
        """Seconds that the step will still take if it goes on like this; ``None`` if that cannot be told."""
        if not stage.total or stage.done >= stage.total:
            return None
        step = self.steps.get(key)
        known = step is not None and step.goes_on(stage)
        at, before = (step.at, step.done) if known and step is not None else (stage.started_at, 0)
        done, took_s = stage.done - before, now - at
        if done <= 0 or took_s < _EARLIEST_S:
            return None
        return took_s / done * (stage.total - stage.done)
