"""What a build is asked for and what comes of it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from trtd.errors import TrtdError
from trtd.pipeline.bounds import UNBOUNDED, Bounds
from trtd.pipeline.listener import Listener, Silent
from trtd.registry.layout import Registry
from trtd.verify.report import Report


@dataclass(frozen=True)
class Outcome:
    """What became of one engine.

    Attributes:
        version: published now or, if nothing was to do, before.
        report: ``None`` if a stage failed before verification, or nothing was tried.
        built: False if the live version was up to date.
        error: why nothing was published; ``None`` if something was.
        record: folder of the version's record.
        plan_digest: of its plan.
        unchanged: the plan is one of ``Request.stalled_plans``: nothing was tried.
    """

    name: str
    precision: str
    version: int | None
    report: Report | None
    built: bool
    error: TrtdError | None
    record: Path | None
    peak_rss_bytes: dict[str, int]
    plan_digest: str
    unchanged: bool = False


@dataclass(frozen=True)
class Request:
    """How to build, beyond what specs say.

    Attributes:
        extra_roots: further folders that specs may read; none count if ``bounds`` fixes the roots.
        cancel: when set, the running stage is stopped and nothing more is begun.
        bounds: what the operator fixed.
        stalled_plans: digests of plans that failed in a way that trying again cannot mend; they are not tried.
    """

    registry: Registry
    extra_roots: tuple[Path, ...] = ()
    threads: int = 0
    force: bool = False
    listener: Listener = field(default_factory=Silent)
    cancel: threading.Event | None = None
    bounds: Bounds = UNBOUNDED
    stalled_plans: frozenset[str] = frozenset()

    @property
    def used_threads(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()
