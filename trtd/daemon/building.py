"""Inside the build process: one spec through the pipeline, with everything told to the daemon on the way."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from trtd.daemon.build_logs import prune
from trtd.daemon.cancel import Cancel, Cancelled
from trtd.daemon.ending import CANCELLED
from trtd.daemon.evidence import Evidence, leave
from trtd.daemon.inputs import Inputs
from trtd.daemon.messages import EngineOutcome, Failure, Outcome
from trtd.daemon.spec_file import by_part, check_link
from trtd.daemon.wire import LONGEST_TEXT, BuilderJob, as_failure, outcome_data
from trtd.errors import Diagnostic, GateMissed, SpecError, TrtdError, WorkerOutOfMemory
from trtd.pipeline import build as pipeline
from trtd.pipeline.attempt import DISK_ERRNOS
from trtd.pipeline.bounds import Bounds
from trtd.pipeline.log import clean
from trtd.pipeline.progress import ProgressEvent
from trtd.pipeline.publishing import LOG_FILE
from trtd.pipeline.staleness import read_report
from trtd.registry.layout import Registry
from trtd.registry.manifest import read_manifest
from trtd.spec.load import LIMIT_BYTES, spec_from_text
from trtd.spec.schema import Spec
from trtd.spec.toml_file import Kind, read_text
from trtd.spec.values import printable
from trtd.status import EngineStatus, Problem
from trtd.store.atomic import storage_error
from trtd.store.digest import PREFIX
from trtd.store.staging import staging_folder

INTAKE = "intake"
"""Not a stage of the pipeline: the time in which model and data are read and hashed."""

_SPEC = Kind("spec", "give the path of a spec, e.g. specs/NAME.toml", LIMIT_BYTES)


class Teller:
    """Tells the daemon what happens: the pipeline's listener. Once nobody listens any more, it is silent."""

    def __init__(self, fd: int, registry: Registry) -> None:
        self._fd = fd
        self._registry = registry
        self._engine = ""
        self._broken = False
        os.set_inheritable(fd, False)

    def tell(self, event: str, **fields: Any) -> None:
        data = (json.dumps({"event": event, **fields}) + "\n").encode()
        while data and not self._broken:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:
                self._broken = True

    def stage_started(self, subject: str, stage: str) -> None:
        self._stage(subject, stage, "started")

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        self.progress(subject, ProgressEvent(stage, 0, None, f"waits, {reason}"))

    def progress(self, subject: str, event: ProgressEvent) -> None:
        self.tell("progress", engine=subject, stage=event.stage, done=event.done, total=event.total, note=event.note)

    def stage_finished(self, subject: str, stage: str, seconds: float, cached: bool = False) -> None:
        self._stage(subject, stage, "finished", seconds, cached)

    def stage_failed(self, subject: str, stage: str, seconds: float) -> None:
        self._stage(subject, stage, "failed", seconds)

    def _stage(self, subject: str, stage: str, state: str, seconds: float = 0.0, cached: bool = False) -> None:
        if subject != self._engine:
            self._engine = subject
            self.tell("log", engine=subject, path=str(pipeline.log_file(self._registry, subject)))
        self.tell("stage", engine=subject, stage=stage, state=state, seconds=seconds, cached=cached)


def run(job_file: Path, events_fd: int, cancel: Cancel, *, limited: bool) -> None:
    """Do the job and tell its outcome.

    Args:
        limited: a control group keeps the memory limit, so that stages need none of their own.
    """
    job = BuilderJob.from_json(job_file.read_bytes())
    teller = Teller(events_fd, Registry(job.registry))
    outcome = _Build(job, teller, cancel, limited).outcome()
    registry = Registry(job.registry)
    inputs = Inputs(registry, [Path(os.path.realpath(root)) for root in (registry.root, *(job.roots or ()))])
    if outcome.spec_digest and inputs.are_still(job.listings):
        leave(registry, Evidence(outcome.spec_digest, job.listings, job.tools), outcome)
    elif outcome.failure is not None and outcome.failure.retry == "never":
        # Nobody knows what was read, and the old files may be put back one day: a disk may just have been away.
        outcome = replace(outcome, failure=replace(outcome.failure, retry="backoff"))
    teller.tell("outcome", outcome=outcome_data(outcome))


class _Build:
    def __init__(self, job: BuilderJob, teller: Teller, cancel: Cancel, limited: bool) -> None:
        self._job = job
        self._teller = teller
        self._cancel = cancel
        self._digest = ""
        self._registry = Registry(job.registry)
        self._request = pipeline.Request(
            registry=self._registry,
            threads=job.threads,
            listener=teller,
            cancel=cancel.event,
            bounds=Bounds(
                deadline_s=job.stage_deadline_s,
                memory_limit_bytes=None if limited else job.memory_limit_bytes,
                hooks_allowed=job.hooks_allowed,
                unverified_allowed=job.unverified_allowed,
                roots=job.roots,
            ),
            stalled_plans=frozenset(job.stalled_plans),
        )

    def outcome(self) -> Outcome:
        """Whatever happens, it becomes an outcome."""
        try:
            engines = self._engines()
        except Cancelled:
            return Outcome(self._digest, failure=CANCELLED)
        except TrtdError as error:
            return Outcome(self._digest, failure=as_failure(error))
        except Exception as error:  # noqa: BLE001  # the outermost frame: a bug, too, must be told and not just kill
            with suppress(OSError):  # the log's disk may be what is full
                traceback.print_exc()
            return Outcome(self._digest, failure=_foreign(error, self._job))
        return Outcome(self._digest, engines)

    def _engines(self) -> tuple[EngineOutcome, ...]:
        if self._job.roots is not None:
            check_link(self._job.spec, (self._registry.root, *self._job.roots))
        text = read_text(self._job.spec, _SPEC)
        # These are the file's very bytes: the text was decoded strictly, without a byte-order mark.
        self._digest = PREFIX + hashlib.sha256(text.encode()).hexdigest()
        self._teller.tell("spec", digest=self._digest)
        self._registry.check()
        self._registry.store.sweep()
        with staging_folder(self._registry.staging, "build") as scratch:
            # What dies on the way leaves its temporary files where a sweep finds them.
            os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
            spec = self._on_target(text)
            with self._cancel.breakable():
                self._teller.tell("stage", engine=spec.name, stage=INTAKE, state="started", seconds=0.0, cached=False)
                prepared = pipeline.prepare(spec, self._job.spec, self._request)
            return tuple(self._engine(outcome) for outcome in pipeline.build_prepared(prepared, self._request))

    def _on_target(self, text: str) -> Spec:
        """The spec for the job's target. It may have been edited since the daemon read it."""
        file, part = printable(os.fspath(self._job.spec)), self._job.part
        found = by_part(spec_from_text(text, file=file, stem=self._job.spec.stem))
        if part not in found:
            what = f"{part} is not listed any more" if part else "is a list now; each of its targets is built by itself"
            raise SpecError([Diagnostic(file, None, "engine.target", what, "what it asks for now is built instead")])
        return found[part]

    def _engine(self, outcome: pipeline.Outcome) -> EngineOutcome:
        failure = None if outcome.error is None else as_failure(outcome.error)
        if failure is not None and self._cancel.event.is_set() and not isinstance(outcome.error, GateMissed):
            failure = CANCELLED
        if outcome.record is not None:
            self._teller.tell("log", engine=outcome.name, path=str(outcome.record / LOG_FILE))
        prune(self._registry, outcome.name)
        return EngineOutcome(
            status=_status(outcome, self._registry),
            plan_digest=outcome.plan_digest,
            built=outcome.built and outcome.error is None,
            failure=failure,
            unchanged=outcome.unchanged,
        )


def _status(outcome: pipeline.Outcome, registry: Registry) -> EngineStatus:
    """How the live version did; where nothing is published, how what was not published did."""
    version, report, published_at = registry.latest(outcome.name), outcome.report, None
    if version is not None:
        with suppress(TrtdError):
            published_at = datetime.fromisoformat(read_manifest(registry, outcome.name, version).created).timestamp()
            report = outcome.report if version == outcome.version else read_report(registry, outcome.name, version)
    fidelity = report.fidelity.values() if report else ()
    return EngineStatus(
        name=outcome.name,
        precision=outcome.precision,
        version=version,
        cosine=_worst(f.cosine for f in fidelity),
        sqnr_db=_worst(f.sqnr_db for f in fidelity),
        speedup=report.speedup if report else None,
        engine_bytes=report.engine_bytes if report else None,
        fp32_bytes=report.fp32_bytes if report else None,
        published_at=published_at,
    )


def _worst(values: Iterable[float]) -> float | None:
    measured = list(values)
    return min(measured) if measured and not any(map(math.isnan, measured)) else None


def _foreign(error: Exception, job: BuilderJob) -> Failure:
    """What is not trtd's own error: memory, the disk, or a bug."""
    if isinstance(error, MemoryError):
        return as_failure(WorkerOutOfMemory("the build process ran out of memory", hint="free memory on this machine"))
    if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
        return as_failure(storage_error(error, "build", error.filename or job.spec))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = clean(f"{type(error).__qualname__}: {error}")[:LONGEST_TEXT]
    problem = Problem(
        "bug",
        f"{text} (in {frame.name}, {frame.filename}:{frame.lineno})",
        "this is a bug in trtd: please report it with the build process's log",
    )
    return Failure(problem, "backoff")
