"""Running one stage: from the store if it ran before with the same inputs, else in a process of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtd.errors import RegistryBusy, StageError, WorkerSilent
from trtd.pipeline.contracts import STAGE_FILES, StageInputs
from trtd.pipeline.job import Job
from trtd.pipeline.launch import launch
from trtd.pipeline.listener import Listener
from trtd.pipeline.outcome import Result
from trtd.plan.build_plan import BuildPlan
from trtd.registry.layout import Registry
from trtd.spec.schema import BuildSection
from trtd.store.atomic import storage_errors
from trtd.store.device_lock import occupy

RESULT_FILE = "stage.json"


@dataclass
class StageRunner:
    """Runs the stages of one plan and tells a listener.

    Attributes:
        log: file that all stages' output is appended to.
        again: stages whose stored output is not to be used.
        peak_rss_bytes: per stage that ran here, largest resident set of its process.
    """

    plan: BuildPlan
    registry: Registry
    limits: BuildSection
    threads: int
    log: Path
    listener: Listener
    cancel: threading.Event | None = None
    again: frozenset[str] = frozenset()
    peak_rss_bytes: dict[str, int] = field(default_factory=dict)

    def run(self, stage: str, inputs: StageInputs) -> Path:
        """The folder with the stage's output, from the store if it is there, ``stage.json`` with its result included.

        Raises:
            TrtdError: the stage failed; the store holds nothing of it.
        """
        key, store = self.plan.stage_key(stage), self.registry.store
        found = None if stage in self.again else store.get(key)
        if found is not None:
            self._note(f"{stage}: from the store, {key}")
            self.listener.stage_finished(self.plan.name, stage, 0.0, True)
            return found
        with store.staging(key) as out:
            self.run_into(out, stage, inputs)
            if stage in self.again:
                store.discard(key)
            return store.commit(key, out)

    def run_into(self, out: Path, stage: str, inputs: StageInputs) -> Path:
        """Run the stage now, whatever the store holds, with ``out``, an empty folder, as its output.

        A stage that uses a GPU waits until it has it to itself: a measurement beside another would be of both.
        """
        started = time.monotonic()
        self.listener.stage_started(self.plan.name, stage)
        try:
            with occupy(inputs.gpus, f"{stage} {self.plan.name}", self._waiter(stage)):
                started = time.monotonic()
                self._note(f"{stage}: started")
                result = self._launch(stage, inputs, out)
            self._require(STAGE_FILES[stage], stage, out)
            with storage_errors("write the stage's result", out / RESULT_FILE):
                (out / RESULT_FILE).write_text(json.dumps(result.value))
        except BaseException:
            self.listener.stage_failed(self.plan.name, stage, time.monotonic() - started)
            raise
        self._note(f"{stage}: finished in {result.duration_s:.1f} s, peak {result.peak_rss_bytes / 1e6:.0f} MB")
        self.peak_rss_bytes[stage] = result.peak_rss_bytes
        self.listener.stage_finished(self.plan.name, stage, time.monotonic() - started)
        return out

    def _waiter(self, stage: str) -> Callable[[RegistryBusy], None]:
        """Tells who has the GPU, once for each, and gives up when the caller cancels."""
        told: set[str] = set()

        def wait(busy: RegistryBusy) -> None:
            if self.cancel is not None and self.cancel.is_set():
                raise StageError("was stopped because its caller cancelled it", where=stage)
            if busy.message not in told:
                told.add(busy.message)
                self._note(f"{stage}: waits, {busy.message}")
                self.listener.stage_waiting(self.plan.name, stage, busy.message)

        return wait

    def _require(self, files: Sequence[str], stage: str, out: Path) -> None:
        missing = [file for file in files if not (out / file).is_file()]
        if missing:
            raise WorkerSilent(
                f"the worker ended well but left no {missing[0]}; log: {self.log}",
                where=stage,
                hint="run the command again; if it stays so, report it with the log",
            )

    def _note(self, line: str) -> None:
        with storage_errors("write the log", self.log), self.log.open("a", encoding="utf-8") as log:
            log.write(f"== {line}\n")

    def _launch(self, stage: str, inputs: StageInputs, out: Path) -> Result:
        job = Job(
            stage=stage,
            inputs=inputs.model_dump(mode="json"),
            out=out,
            deadline_s=self.limits.deadline_s,
            memory_limit_bytes=self.limits.memory_limit_bytes,
            threads=self.threads,
        )
        return launch(
            job,
            log=self.log,
            on_progress=lambda event: self.listener.progress(self.plan.name, event),
            cancel=self.cancel,
        )


def stage_result(folder: Path) -> dict[str, Any]:
    """What the stage that made ``folder`` returned."""
    result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_bytes())
    return result
