"""The main job: from a spec to verified, published engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtd.calibrate.table import CalibrationTable, read_table
from trtd.engines.table import BACKENDS
from trtd.errors import EnvironmentMissing, StageError, TrtdError, UsageError
from trtd.pipeline.contracts import TABLE_FILE
from trtd.pipeline.fallback import fall_back
from trtd.pipeline.intake import Intake, admit, take_in
from trtd.pipeline.judging import HTML_FILE, judge
from trtd.pipeline.making import calibrate_inputs, convert, make_engine
from trtd.pipeline.planning import make_plans
from trtd.pipeline.publishing import publish_engine
from trtd.pipeline.repeats import judge_repeats
from trtd.pipeline.request import Outcome, Request
from trtd.pipeline.stage_runner import StageRunner
from trtd.pipeline.staleness import read_report, reasons
from trtd.plan.build_plan import BuildPlan
from trtd.registry.layout import Registry
from trtd.spec.schema import Spec
from trtd.store.atomic import storage_errors
from trtd.store.lock import hold
from trtd.store.staging import staging_folder

__all__ = [
    "HTML_FILE",
    "Outcome",
    "Prepared",
    "Request",
    "build",
    "build_prepared",
    "calibrate",
    "explain",
    "import_table",
    "log_file",
    "open_runner",
    "prepare",
]


def build(spec_file: Path, request: Request) -> list[Outcome]:
    """Build every engine that a spec asks for, verify it and publish it.

    One engine's failure does not keep the others from being built.

    Raises:
        TrtdError: the spec, the model or the data is unusable, so that nothing could begin.
    """
    request.registry.check()
    prepared = [Prepared(intake, make_plans(intake)) for intake in _take_in(spec_file, request)]
    return [outcome for one in prepared for outcome in build_prepared(one, request)]


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


def _take_in(spec_file: Path, request: Request) -> list[Intake]:
    """One intake for each target."""
    return take_in(spec_file, registry=request.registry, extra_roots=request.extra_roots, bounds=request.bounds)


def explain(spec_file: Path, request: Request) -> list[tuple[BuildPlan, list[str]]]:
    """Every engine that a spec asks for, and the reasons why it would be built; no reasons: it is up to date."""
    plans = [plan for intake in _take_in(spec_file, request) for plan in make_plans(intake)]
    return [(plan, reasons(plan, request.registry)) for plan in plans]


def calibrate(spec_file: Path, request: Request) -> tuple[Path, CalibrationTable]:
    """Convert and calibrate only, for the first target with INT8; returns the table and where it lies in the store."""
    intake, runner = _int8(spec_file, request)
    folder = runner.run("calibrate", calibrate_inputs(intake, convert(intake, runner), request))
    runner.log.unlink(missing_ok=True)
    return folder / TABLE_FILE, read_table(folder / TABLE_FILE)


def import_table(spec_file: Path, given: Path, request: Request) -> CalibrationTable:
    """A table of another's, or a cache of TensorRT's, as a table of the spec's model and first target with INT8.

    Raises:
        DataError: it is of another network.
    """
    intake, runner = _int8(spec_file, request)
    inputs = calibrate_inputs(intake, convert(intake, runner), request).model_copy(update={"given": given})
    with staging_folder(request.registry.staging, f"import-{runner.plan.name}") as scratch:
        table = read_table(runner.run_into(scratch, "calibrate", inputs) / TABLE_FILE)
    runner.log.unlink(missing_ok=True)
    return table


def _int8(spec_file: Path, request: Request) -> tuple[Intake, StageRunner]:
    """The first target of a spec that INT8 is asked for, ready to run stages."""
    request.registry.check()
    elsewhere = False
    for intake in _take_in(spec_file, request):
        for plan in make_plans(intake):
            if plan.precision == "int8" and BACKENDS[plan.target].family == "paddle":
                elsewhere = True
                continue
            if plan.precision == "int8" and intake.facts.quantized:
                raise UsageError("the model is quantized: it has its own scales", where=str(intake.source.model_file))
            if plan.precision == "int8":
                again = frozenset({"calibrate"}) if request.force else frozenset[str]()
                return intake, open_runner(plan, intake, request, again=again)
    if elsewhere:
        raise UsageError(
            "inside of Paddle, TensorRT calibrates while an engine is built", hint=f"trtd build {spec_file}"
        )
    raise UsageError("the spec asks for no int8 engine", hint='set engine.precision = "int8"')


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
        _refuse_in_vain(intake, plan)
        with hold(registry.private / "locks" / f"build-{plan.name}.lock", f"build {plan.name}"):
            engine = make_engine(intake, runner, request)
            with staging_folder(registry.staging, f"verify-{plan.name}") as scratch:
                judged = judge(intake, engine, runner, request, scratch / "report")
                report = judged.report
                if other := fall_back(intake, judged.report, runner, request):
                    judged = judge(intake, other, runner, request, scratch / "report-of-quantized")
                judged = judge_repeats(intake, judged, runner, request, scratch)
                report = judged.report
                version = publish_engine(intake, judged.engine, report, runner, judged.folder)
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


def _refuse_in_vain(intake: Intake, plan: BuildPlan) -> None:
    """Tell before any work what this machine lacks to build the engine, or to verify it where that must be."""
    backend, capabilities = BACKENDS[plan.target], intake.spec.engine.compute_capabilities
    if missing := backend.missing(capabilities, plan.precision):
        raise missing
    unverifiable = backend.unverifiable(capabilities)
    if unverifiable and not intake.spec.publish.unverified:
        raise EnvironmentMissing(
            f"{plan.name} could be built here and not be verified: {unverifiable}",
            where=plan.name,
            hint="build where such a device is, or publish it without proof: unverified = true in [publish]; then "
            f"trtd verify {plan.name} on such a device completes the verification",
        )


def log_file(registry: Registry, name: str) -> Path:
    """The log of this process's build of an engine; once published, it moves into the version's record."""
    return registry.logs / f"{name}-{os.getpid()}.log"  # two commands must not share one


def open_runner(plan: BuildPlan, intake: Intake, request: Request, again: frozenset[str] = frozenset()) -> StageRunner:
    log = log_file(request.registry, plan.name)
    with storage_errors("start the log", log):
        log.parent.mkdir(exist_ok=True)
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
