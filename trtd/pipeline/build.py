"""The main job: from a spec to verified, published engines."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trtd.calibrate.table import CalibrationTable, read_table
from trtd.engines.reference import reference_name
from trtd.engines.table import BACKENDS
from trtd.errors import GateMissed, TrtdError, UsageError
from trtd.pipeline.contracts import (
    ENGINE_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    BuildInputs,
    CalibrateInputs,
    ConvertInputs,
    ConvertResult,
    ReferenceInputs,
    VerifyInputs,
    output_file,
)
from trtd.pipeline.intake import Intake, make_plans, take_in, tool_versions
from trtd.pipeline.listener import Listener, Silent
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.pipeline.staleness import read_report, reasons
from trtd.plan.build_plan import BuildPlan
from trtd.registry.layout import Registry
from trtd.registry.manifest import Provenance, Target
from trtd.registry.publish import publish
from trtd.store.atomic import storage_errors, write_file
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.ui.figures import number
from trtd.ui.html import render
from trtd.verify.report import Report

HTML_FILE = "report.html"
LOG_FILE = "build.log"


@dataclass(frozen=True)
class Outcome:
    """What became of one engine.

    Attributes:
        version: published now or, if nothing was to do, before.
        report: ``None`` only if a stage failed before verification.
        built: False if the live version was up to date.
        error: why nothing was published; ``None`` if something was.
        record: folder of the version's record.
    """

    name: str
    precision: str
    version: int | None
    report: Report | None
    built: bool
    error: TrtdError | None
    record: Path | None
    peak_rss_bytes: dict[str, int]


@dataclass(frozen=True)
class Request:
    """How to build, beyond what specs say."""

    registry: Registry
    extra_roots: tuple[Path, ...] = ()
    threads: int = 0
    force: bool = False
    listener: Listener = field(default_factory=Silent)
    cancel: threading.Event | None = None

    @property
    def used_threads(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))


def build(spec_file: Path, request: Request) -> list[Outcome]:
    """Build every engine that a spec asks for, verify it and publish it.

    One engine's failure does not keep the others from being built.

    Raises:
        TrtdError: the spec, the model or the data is unusable, so that nothing could begin.
    """
    request.registry.check()
    intake = take_in(spec_file, registry=request.registry, extra_roots=request.extra_roots)
    return [_build_one(intake, plan, request) for plan in make_plans(intake)]


def explain(spec_file: Path, request: Request) -> list[tuple[BuildPlan, list[str]]]:
    """Every engine that a spec asks for, and the reasons why it would be built; no reasons: it is up to date."""
    intake = take_in(spec_file, registry=request.registry, extra_roots=request.extra_roots)
    return [(plan, reasons(plan, request.registry)) for plan in make_plans(intake)]


def calibrate(spec_file: Path, request: Request) -> tuple[Path, CalibrationTable]:
    """Convert and calibrate only; returns the table and where it lies in the store."""
    request.registry.check()
    intake = take_in(spec_file, registry=request.registry, extra_roots=request.extra_roots)
    plan = next((p for p in make_plans(intake) if p.precision == "int8"), None)
    if plan is None:
        raise UsageError("the spec asks for no int8 engine", hint='set engine.precision = "int8"')
    runner = open_runner(plan, intake, request, again=frozenset({"calibrate"}) if request.force else frozenset())
    converted = runner.run("convert", ConvertInputs(source=intake.source, facts=intake.facts))
    folder = runner.run("calibrate", _calibrate_inputs(intake, converted, request))
    return folder / TABLE_FILE, read_table(folder / TABLE_FILE)


def _build_one(intake: Intake, plan: BuildPlan, request: Request) -> Outcome:
    registry = request.registry
    if not request.force and not reasons(plan, registry):
        version = registry.latest(plan.name)
        assert version is not None
        known = read_report(registry, plan.name, version)
        return Outcome(plan.name, plan.precision, version, known, False, None, registry.record(plan.name, version), {})
    runner = open_runner(plan, intake, request)
    report: Report | None = None
    try:
        with hold(registry.private / "locks" / f"build-{plan.name}.lock", f"build {plan.name}"):
            engine = _make_engine(intake, runner, request)
            with staging_folder(registry.staging, f"verify-{plan.name}") as scratch:
                report = judge_engine(intake, engine, runner, request, scratch)
                version = _publish(intake, plan, engine, report, runner, scratch)
        runner.log.unlink(missing_ok=True)  # it is in the record now
    except TrtdError as error:
        return Outcome(plan.name, plan.precision, None, report, True, error, None, runner.peak_rss_bytes)
    record = registry.record(plan.name, version)
    return Outcome(plan.name, plan.precision, version, report, True, None, record, runner.peak_rss_bytes)


@dataclass(frozen=True)
class MadeEngine:
    """Folders of the stages' outputs, and the calibration table."""

    converted: Path
    table: Path | None
    reference: Path
    engine: Path
    summary: Path


def _make_engine(intake: Intake, runner: StageRunner, request: Request) -> MadeEngine:
    spec, plan = intake.spec, runner.plan
    converted = runner.run("convert", ConvertInputs(source=intake.source, facts=intake.facts))
    table = None
    if plan.precision == "int8":
        table = runner.run("calibrate", _calibrate_inputs(intake, converted, request)) / TABLE_FILE
    judged_by = runner.run("reference", reference_inputs(intake, request))
    lowered = BuildInputs(
        converted=converted,
        table=table,
        method=spec.calibration.method if spec.calibration else "minmax",
        percentile=spec.calibration.percentile if spec.calibration else 99.99,
        target=plan.target,
        precision=plan.precision,
        quantization=spec.quantization,
    )
    built = runner.run("build", lowered)
    used = built / TABLE_FILE if table else None
    return MadeEngine(converted, used, judged_by, built, built / SUMMARY_FILE)


def judge_engine(intake: Intake, engine: MadeEngine, runner: StageRunner, request: Request, scratch: Path) -> Report:
    """Judge the engine; leaves ``report.json`` and ``report.html`` in ``scratch``."""
    plan, data = runner.plan, intake.data
    inputs = VerifyInputs(
        name=plan.name,
        target=plan.target,
        precision=plan.precision,
        converted=engine.converted,
        engine=engine.engine,
        summary=engine.summary,
        reference=engine.reference,
        reference_name=reference_name(intake.facts.format),
        outputs=len(stage_result(engine.reference)["outputs"]),
        heldout=data.heldout,
        batch=intake.batch,
        verify=intake.spec.verify,
        labels=intake.labels,
        spec_folder=intake.spec_file.parent,
        threads=request.used_threads,
        tools=tool_versions(plan.target, intake.facts.format),
        notes=data.notes,
    )
    runner.run_into(scratch, "verify", inputs)
    report = Report.model_validate_json((scratch / REPORT_FILE).read_bytes())
    table = read_table(engine.table) if engine.table else None
    calibration = intake.spec.calibration
    facts = {
        "method": calibration.method if calibration and table else None,
        "activation": "int8" if intake.spec.quantization.activation == "int8" else "uint8",
        "model digest": intake.facts.digest,
        "calibration set": table.set_digest if table else "none",
        "held-out set": data.heldout.digest,
        "device": BACKENDS[plan.target].device(),
    }
    html = render(report, table, {k: v for k, v in facts.items() if v})
    with storage_errors("write the report", scratch / HTML_FILE):
        (scratch / HTML_FILE).write_text(html, encoding="utf-8")
    return report


def _publish(
    intake: Intake, plan: BuildPlan, engine: MadeEngine, report: Report, runner: StageRunner, scratch: Path
) -> int:
    registry, backend = runner.registry, BACKENDS[plan.target]
    record_files = {
        REPORT_FILE: scratch / REPORT_FILE,
        HTML_FILE: scratch / HTML_FILE,
        SUMMARY_FILE: engine.summary,
        LOG_FILE: runner.log,
    }
    if engine.table:
        record_files[TABLE_FILE] = engine.table
    if report.missed:
        raise _gates_missed(report, _keep_failed(registry, plan.name, record_files))
    signature = ConvertResult.model_validate(stage_result(engine.converted))
    calibration = intake.data.calibration
    provenance = Provenance(
        precision=plan.precision,
        target=Target(backend=plan.target, fingerprint={**backend.fingerprint(), "device": backend.device()}),
        proof=report.proof,
        gates=report.gates,
        model_digest=intake.facts.digest,
        build_digest=plan.digest,
        ingredients=plan.ingredients,
        calibration_digest=calibration.digest if engine.table and calibration else None,
        heldout_digest=intake.data.heldout.digest,
        spec_file=str(intake.spec_file),
        spec=intake.spec.model_dump(mode="json"),
        inputs=signature.inputs,
        outputs=signature.outputs,
        max_batch_size=intake.max_batch if _keeps_batch(engine.reference, len(signature.outputs)) else 0,
        tools=report.tools,
    )
    engine_files = {f.name: f for f in sorted(engine.engine.glob(f"{ENGINE_FILE}*"))}
    return publish(registry, plan.name, engine_files, record_files, provenance)


def _keeps_batch(reference: Path, outputs: int) -> bool:
    """Whether every output of one item has a leading dimension of one; lists of detections do not."""
    shapes = [np.load(reference / output_file(0, i), mmap_mode="r").shape for i in range(outputs)]
    return all(shape[:1] == (1,) for shape in shapes)


def _keep_failed(registry: Registry, name: str, files: Mapping[str, Path]) -> Path:
    """Copy what tells about an engine that was not published to ``.trtd/failed/<name>/``; returns its HTML report."""
    folder = registry.private / "failed" / name
    with storage_errors("keep the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, source in files.items():
            write_file(folder / file, source.read_bytes())
    return folder / HTML_FILE


def _gates_missed(report: Report, html: Path) -> GateMissed:
    lines = [
        f"{gate.name}{f' of {gate.output}' if gate.output else ''} is {number(gate.measured, 6)}, "
        f"must be {gate.comparison} {gate.bound:g}"
        for gate in report.missed
    ]
    advice = next((gate.advice for gate in report.missed if gate.advice), "")
    return GateMissed(f"not published: {'; '.join(lines)}; report: {html}", where=report.name, hint=advice)


def open_runner(plan: BuildPlan, intake: Intake, request: Request, again: frozenset[str] = frozenset()) -> StageRunner:
    log = request.registry.logs / f"{plan.name}-{os.getpid()}.log"  # two commands must not share one
    with storage_errors("start the log", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    return StageRunner(
        plan=plan,
        registry=request.registry,
        limits=intake.spec.build,
        threads=request.used_threads,
        log=log,
        listener=request.listener,
        cancel=request.cancel,
        again=again,
    )


def _calibrate_inputs(intake: Intake, converted: Path, request: Request) -> CalibrateInputs:
    calibration, feed = intake.spec.calibration, intake.data.calibration
    assert calibration is not None
    assert feed is not None
    return CalibrateInputs(
        converted=converted,
        target=intake.spec.engine.target,
        activation=intake.spec.quantization.activation,
        calibration=feed,
        batch=calibration.batch,
        threads=request.used_threads,
    )


def reference_inputs(intake: Intake, request: Request) -> ReferenceInputs:
    return ReferenceInputs(
        source=intake.source, facts=intake.facts, heldout=intake.data.heldout, threads=request.used_threads
    )
