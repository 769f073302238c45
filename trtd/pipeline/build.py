"""The main job: from a spec to verified, published engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtd.calibrate.table import CalibrationTable, read_table
from trtd.engines.reference import reference_name
from trtd.engines.table import BACKENDS
from trtd.errors import StageError, TrtdError, UsageError
from trtd.pipeline.contracts import (
    REPORT_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    BuildInputs,
    CalibrateInputs,
    ConvertInputs,
    ReferenceInputs,
    VerifyInputs,
)
from trtd.pipeline.intake import Intake, admit, make_plans, take_in, tool_versions
from trtd.pipeline.publishing import HTML_FILE, MadeEngine, publish_engine
from trtd.pipeline.request import Outcome, Request
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.pipeline.staleness import read_report, reasons
from trtd.plan.build_plan import BuildPlan
from trtd.registry.layout import Registry
from trtd.spec.schema import Spec
from trtd.store.atomic import storage_errors
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.ui.html import render
from trtd.verify.report import Report

__all__ = [
    "HTML_FILE",
    "MadeEngine",
    "Outcome",
    "Prepared",
    "Request",
    "build",
    "build_prepared",
    "calibrate",
    "explain",
    "judge_engine",
    "log_file",
    "open_runner",
    "prepare",
    "reference_inputs",
]


def build(spec_file: Path, request: Request) -> list[Outcome]:
    """Build every engine that a spec asks for, verify it and publish it.

    One engine's failure does not keep the others from being built.

    Raises:
        TrtdError: the spec, the model or the data is unusable, so that nothing could begin.
    """
    request.registry.check()
    intake = _take_in(spec_file, request)
    return build_prepared(Prepared(intake, make_plans(intake)), request)


@dataclass(frozen=True)
class Prepared:
    """A spec with model and data looked at and hashed, and a plan for each engine."""

    intake: Intake
    plans: Sequence[BuildPlan]


def prepare(spec: Spec, spec_file: Path, request: Request) -> Prepared:
    """The first half of :func:`build`, for a spec that is loaded already. Only reads, so it may be broken off anywhere.

    Raises:
        TrtdError: the spec, the model or the data is unusable.
    """
    intake = admit(spec, spec_file, registry=request.registry, extra_roots=request.extra_roots, bounds=request.bounds)
    return Prepared(intake, make_plans(intake))


def build_prepared(prepared: Prepared, request: Request) -> list[Outcome]:
    """The second half of :func:`build`."""
    return [_build_one(prepared.intake, plan, request) for plan in prepared.plans]


def _take_in(spec_file: Path, request: Request) -> Intake:
    return take_in(spec_file, registry=request.registry, extra_roots=request.extra_roots, bounds=request.bounds)


def explain(spec_file: Path, request: Request) -> list[tuple[BuildPlan, list[str]]]:
    """Every engine that a spec asks for, and the reasons why it would be built; no reasons: it is up to date."""
    intake = _take_in(spec_file, request)
    return [(plan, reasons(plan, request.registry)) for plan in make_plans(intake)]


def calibrate(spec_file: Path, request: Request) -> tuple[Path, CalibrationTable]:
    """Convert and calibrate only; returns the table and where it lies in the store."""
    request.registry.check()
    intake = _take_in(spec_file, request)
    plan = next((p for p in make_plans(intake) if p.precision == "int8"), None)
    if plan is None:
        raise UsageError("the spec asks for no int8 engine", hint='set engine.precision = "int8"')
    runner = open_runner(plan, intake, request, again=frozenset({"calibrate"}) if request.force else frozenset())
    converted = runner.run("convert", ConvertInputs(source=intake.source, facts=intake.facts))
    folder = runner.run("calibrate", _calibrate_inputs(intake, converted, request))
    return folder / TABLE_FILE, read_table(folder / TABLE_FILE)


def _build_one(intake: Intake, plan: BuildPlan, request: Request) -> Outcome:
    registry = request.registry
    if request.cancelled:
        return _untouched(plan, registry, error=StageError("was not begun because its caller cancelled it"))
    if not request.force and not reasons(plan, registry):
        return _untouched(plan, registry)
    if plan.digest in request.stalled_plans:
        return _untouched(plan, registry, unchanged=True)
    runner = open_runner(plan, intake, request)
    version, report, error = None, None, None
    try:
        with hold(registry.private / "locks" / f"build-{plan.name}.lock", f"build {plan.name}"):
            engine = _make_engine(intake, runner, request)
            with staging_folder(registry.staging, f"verify-{plan.name}") as scratch:
                report = judge_engine(intake, engine, runner, request, scratch)
                version = publish_engine(intake, engine, report, runner, scratch)
        runner.log.unlink(missing_ok=True)  # it is in the record now
    except TrtdError as raised:
        error = raised
    return Outcome(
        name=plan.name,
        precision=plan.precision,
        version=version,
        report=report,
        built=True,
        error=error,
        record=None if version is None else registry.record(plan.name, version),
        peak_rss_bytes=runner.peak_rss_bytes,
        plan_digest=plan.digest,
    )


def _untouched(
    plan: BuildPlan, registry: Registry, *, error: TrtdError | None = None, unchanged: bool = False
) -> Outcome:
    """What is told of an engine that nothing was done about; without an error, the live version is up to date."""
    version = None if error or unchanged else registry.latest(plan.name)
    return Outcome(
        name=plan.name,
        precision=plan.precision,
        version=version,
        report=None if version is None else read_report(registry, plan.name, version),
        built=False,
        error=error,
        record=None if version is None else registry.record(plan.name, version),
        peak_rss_bytes={},
        plan_digest=plan.digest,
        unchanged=unchanged,
    )


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
        hooks_allowed=request.bounds.hooks_allowed,
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


def log_file(registry: Registry, name: str) -> Path:
    """The log of this process's build of an engine; once published, it moves into the version's record."""
    return registry.logs / f"{name}-{os.getpid()}.log"  # two commands must not share one


def open_runner(plan: BuildPlan, intake: Intake, request: Request, again: frozenset[str] = frozenset()) -> StageRunner:
    log = log_file(request.registry, plan.name)
    with storage_errors("start the log", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    return StageRunner(
        plan=plan,
        registry=request.registry,
        limits=request.bounds.limits(intake.spec.build),
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
