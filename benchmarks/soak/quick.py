"""A stand-in for the pipeline: a build takes a tenth of a second and makes no engine.

Everything around it is real: the build process, the content store, locks, publishing, cancelling. Each stage is a
process of its own in a session of its own, which does not die with its parent, as a compiler's might not. What is
published says what it was made from, so that the end can be judged.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtd.errors import DataError, GateMissed, ModelError, StageError, TrtdError, WorkerCrashed
from trtd.model.facts import TensorFacts
from trtd.pipeline import build as pipeline
from trtd.pipeline.request import Outcome, Request
from trtd.registry.layout import Registry
from trtd.registry.manifest import Provenance, Target, read_manifest
from trtd.registry.publish import publish
from trtd.spec.schema import Spec
from trtd.store.digest import json_digest
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.verify.report import Gate

LEDGER = "TRTD_SOAK_LEDGER"
REAL = "real-"
STAGES = ("convert", "calibrate", "build")
ENGINE_BYTES = 200_000
HOPELESS = 13  # so many samples never pass the gate
_WORK_S = (0.0, 0.06)
_LONG_S, _LONG_SHARE = 1.5, 0.03
_TICK_S = 0.003

real_prepare, real_build_prepared = pipeline.prepare, pipeline.build_prepared


@dataclass(frozen=True)
class Quick:
    """A spec whose model and data were read. ``made_of``: for each stage, what its output depends on."""

    spec: Spec
    made_of: dict[str, list[str]]


def made_of(spec: Spec, registry: Registry) -> dict[str, list[str]]:
    """What each stage of a spec depends on, from the bytes of its model and data as they are now."""
    name = spec.model.registry or ""
    version = max(registry.model_versions(name), default=0)
    model = registry.models / name / str(version) / "net.onnx"
    data = registry.root / "data" / Path(spec.calibration.data or "").name if spec.calibration else registry.root
    try:
        convert = [f"{name}@{version}", hashlib.sha256(model.read_bytes()).hexdigest()]
    except OSError as error:
        raise ModelError(f"no model: {error.strerror}", where=str(model)) from error
    try:
        files = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in sorted(data.iterdir())]
    except OSError as error:
        raise DataError(f"no data: {error.strerror}", where=str(data)) from error
    samples = spec.calibration.samples if spec.calibration else 0
    return {"convert": convert, "calibrate": [*convert, *files], "build": [*convert, *files, f"{samples} samples"]}


def engine_bytes(name: str, made_of: dict[str, list[str]]) -> bytes:
    """The whole of an engine: what it was made from, and filling that can be torn."""
    head = json.dumps([name, *made_of["build"]]).encode()
    filling = hashlib.sha256(head).digest()
    return head + b"\n" + filling * ((ENGINE_BYTES - len(head)) // len(filling))


def prepare(spec: Spec, spec_file: Path, request: Request) -> Quick | pipeline.Prepared:
    """In place of :func:`trtd.pipeline.build.prepare`."""
    if spec.name.startswith(REAL):
        return real_prepare(spec, spec_file, request)
    return Quick(spec, made_of(spec, request.registry))


def build_prepared(prepared: Quick | pipeline.Prepared, request: Request) -> list[Outcome]:
    """In place of :func:`trtd.pipeline.build.build_prepared`."""
    if not isinstance(prepared, Quick):
        return real_build_prepared(prepared, request)
    names: Sequence[tuple[str, str]] = list(prepared.spec.engine_names.items())
    return [_Build(prepared, name, precision, request).outcome() for precision, name in names]


class _Build:
    """One engine."""

    def __init__(self, prepared: Quick, name: str, precision: str, request: Request) -> None:
        self.spec, self.made_of = prepared.spec, prepared.made_of
        self.name, self.precision, self.request = name, precision, request
        self.registry = request.registry
        self.digest = json_digest([name, self.made_of["build"]])

    def outcome(self) -> Outcome:
        live = self.registry.latest(self.name)
        if live is not None and read_manifest(self.registry, self.name, live).build_digest == self.digest:
            return self._outcome(live, built=False)
        if self.digest in self.request.stalled_plans:
            return self._outcome(None, built=False, unchanged=True)
        try:
            lock = self.registry.private / "locks" / f"build-{self.name}.lock"
            with hold(lock, f"build {self.name}"), staging_folder(self.registry.staging, self.name) as scratch:
                for stage in STAGES:
                    self._stage(stage)
                return self._outcome(self._publish(scratch), built=True)
        except TrtdError as error:
            return self._outcome(None, built=True, error=error)

    def _outcome(
        self, version: int | None, *, built: bool, error: TrtdError | None = None, unchanged: bool = False
    ) -> Outcome:
        record = None if version is None else self.registry.record(self.name, version)
        return Outcome(self.name, self.precision, version, None, built, error, record, {}, self.digest, unchanged)

    def _stage(self, stage: str) -> None:
        key, store = json_digest([self.name, stage, self.made_of[stage]]), self.registry.store
        if store.get(key) is not None:
            self.request.listener.stage_finished(self.name, stage, 0.0, True)
            return
        with store.staging(key) as out:
            self.request.listener.stage_started(self.name, stage)
            note(f"start {key}")
            self._work(out / "output", stage)
            store.commit(key, out)
            note(f"done {key}")
        self.request.listener.stage_finished(self.name, stage, 0.0)

    def _work(self, output: Path, stage: str) -> None:
        """The stage's process."""
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                chance = random.Random()
                time.sleep(_LONG_S if chance.random() < _LONG_SHARE else chance.uniform(*_WORK_S))
                output.write_text(f"{stage} {self.made_of[stage]}")
            finally:
                os._exit(0)
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if self.request.cancelled:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise StageError("was stopped", where=stage)
            time.sleep(_TICK_S)
        if not output.exists():
            raise WorkerCrashed("the stage died", where=stage)

    def _publish(self, scratch: Path) -> int:
        samples = self.spec.calibration.samples if self.spec.calibration else 0
        if samples == HOPELESS:
            raise GateMissed("13 samples are never enough", where=self.name)
        (scratch / "model.onnx").write_bytes(engine_bytes(self.name, self.made_of))
        (scratch / "build.log").write_text("a stand-in made it\n")
        sources = {name: scratch / name for name in ("model.onnx", "build.log")}
        record = {"build.log": sources["build.log"]}
        version = publish(self.registry, self.name, {"model.onnx": sources["model.onnx"]}, record, self._provenance())
        note(f"published {self.name} {version}")
        return version

    def _provenance(self) -> Provenance:
        gate = Gate(name="cosine", output="y", comparison=">=", bound=0.9, measured=1.0, passed=True)
        return Provenance(
            precision=self.precision,
            target=Target(backend="onnxruntime-cpu", fingerprint={}),
            proof="verified",
            gates=(gate,),
            model_digest=json_digest(self.made_of["convert"]),
            build_digest=self.digest,
            calibration_digest=None,
            heldout_digest="",
            spec=self.spec.model_dump(mode="json"),
            inputs=(TensorFacts(name="x", dtype="float32", shape=(None, 4)),),
            outputs=(TensorFacts(name="y", dtype="float32", shape=(None, 4)),),
            tools={},
        )


def note(line: str) -> None:
    """Write a line into the ledger, whole, and in the order of all processes."""
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
