"""Engines that are published already: judged again, timed again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trtd.engines.opening import EngineFiles
from trtd.engines.table import BACKENDS
from trtd.errors import EnvironmentMissing, RegistryError, UsageError
from trtd.pipeline.build import Request, open_runner
from trtd.pipeline.contracts import (
    LAYERS_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    BenchInputs,
    Timed,
)
from trtd.pipeline.intake import Intake, Quantized, admit
from trtd.pipeline.judging import HTML_FILE, judge
from trtd.pipeline.made import MadeEngine, made_of, reference_of
from trtd.pipeline.making import (
    convert,
    make_baselines,
    produce,
    quantize_inputs,
)
from trtd.pipeline.making_paddle import published_paddle
from trtd.pipeline.planning import make_plans
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.plan.build_plan import BuildPlan
from trtd.registry.layout import Registry
from trtd.registry.lookup import current
from trtd.registry.manifest import Manifest, verify_files
from trtd.registry.prove import prove
from trtd.spec.schema import Spec
from trtd.store.staging import staging_folder
from trtd.verify.report import Report


def verify_published(registry: Registry, name: str, version: int | None, request: Request) -> Report:
    """Check the digests of a published engine and judge it again, as its spec said when it was built.

    An engine that was published unverified, for want of its device, is verified from then on if it passes here.

    Raises:
        RegistryError: there is no such engine, or a file was changed.
        TrtdError: its model or data are not what they were, or a stage failed.
    """
    with staging_folder(registry.staging, f"verify-{name}") as scratch:
        (scratch / "graph").mkdir()
        manifest, intake, runner, engine = _published(registry, name, version, request, scratch / "graph")
        _, report, folder = judge(intake, engine, runner, request, scratch / "report")
        if manifest.proof == "emulated" and report.proof == "verified" and report.passed:
            told = {file: folder / file for file in (REPORT_FILE, HTML_FILE, LAYERS_FILE)}
            prove(registry, name, manifest.version, told, report.gates, device=BACKENDS[report.target].device())
    runner.log.unlink(missing_ok=True)  # of what went well, the report tells all
    return report


def bench_published(
    registry: Registry, name: str, version: int | None, request: Request, *, runs: int, batch: int | None
) -> Timed:
    """Time a published engine beside FP32; raises as :func:`verify_published`."""
    if runs < 1 or (batch is not None and batch < 1):
        raise UsageError("--runs and --batch are whole numbers from 1")
    manifest, folder = current(registry, name, version)
    if why := manifest.engine_files(folder).unverifiable:
        raise EnvironmentMissing(f"{name} cannot run here: {why}", hint="time it where such a device is")
    with staging_folder(registry.staging, f"bench-{name}") as scratch:
        for part in ("graph", "times"):
            (scratch / part).mkdir()
        _, intake, runner, engine = _published(registry, name, version, request, scratch / "graph")
        inputs = BenchInputs(
            engine=engine.files,
            baseline=engine.baselines["fp32"],
            kernels=registry.private / "cache",
            heldout=intake.data.heldout,
            batch=batch or intake.batch,
            runs=runs,
            threads=request.used_threads,
        )
        timed = Timed.model_validate(stage_result(runner.run_into(scratch / "times", "bench", inputs)))
    runner.log.unlink(missing_ok=True)
    return timed


def _published(
    registry: Registry, name: str, version: int | None, request: Request, out: Path
) -> tuple[Manifest, Intake, StageRunner, MadeEngine]:
    """A published engine, whole and of the model and held-out set that it was built with.

    Args:
        out: an empty folder for its graph, which the store must not keep: the calibration data may be other ones by
            now, and its key would say that the graph was made with these.
    """
    manifest, folder = current(registry, name, version)
    verify_files(registry, name, manifest.version)
    spec_file = Path(manifest.spec_file)
    intake = admit(
        _spec_of(manifest), spec_file, registry=registry, extra_roots=request.extra_roots, bounds=request.bounds
    )
    plan = next(p for p in make_plans(intake) if p.precision == manifest.precision)
    _refuse_changed(manifest, plan)
    runner = open_runner(plan, intake, request)
    quantized = _quantized_of(manifest, intake, runner)
    files = manifest.engine_files(folder)
    if BACKENDS[plan.target].family == "paddle":
        engine = published_paddle(intake, runner, request, quantized, files, manifest.notes)
    else:
        engine = _published_graph(manifest, files, intake, runner, request, quantized, out)
    return manifest, intake, runner, engine


def _published_graph(
    manifest: Manifest,
    files: EngineFiles,
    intake: Intake,
    runner: StageRunner,
    request: Request,
    quantized: Quantized | None,
    out: Path,
) -> MadeEngine:
    """The published files, with everything beside them that judging needs made again."""
    record = runner.registry.record(manifest.name, manifest.version)
    table = record / TABLE_FILE if (record / TABLE_FILE).is_file() else None
    its_intake, its_runner = made_of(intake, runner, quantized)
    converted = convert(its_intake, its_runner)
    graph, summary = files.folder, record / SUMMARY_FILE
    if BACKENDS[runner.plan.target].compiles:
        graph = its_runner.run_into(out, "quantize", quantize_inputs(its_intake, its_runner, converted, table))
        summary = graph / SUMMARY_FILE
    return MadeEngine(
        converted=converted,
        reference=reference_of(intake, runner, request),
        graph=graph,
        summary=summary,
        table=table,
        files=files,
        baselines=make_baselines(intake, runner, convert(intake, runner)),
        notes=manifest.notes,
    )


def _quantized_of(manifest: Manifest, intake: Intake, runner: StageRunner) -> Quantized | None:
    """The quantized model that a published engine's scales are from, where that is not its source."""
    digest = manifest.scales_digest
    if digest is None:
        return None
    found = intake.quantized or produce(intake, runner)
    if found.facts.digest != digest:
        raise RegistryError(
            f"the quantized model is not what {manifest.name}@{manifest.version} was built from",
            hint=f"build it again: trtd build {manifest.spec_file}",
            where=str(found.source.model_file),
        )
    return found


def _refuse_changed(manifest: Manifest, plan: BuildPlan) -> None:
    """The model and what judges it must be those of the build; tools may have moved on."""
    what = {
        "model": "the model is",
        "heldout.set": "the held-out data is",
        "heldout.order": "the order of the held-out data is",
        "verify.labels": "the labels are",
        "verify.hook": "the metric hook is",
    }
    for key, subject in what.items():
        if manifest.ingredients.get(key) != plan.ingredients[key]:
            raise RegistryError(
                f"{subject} not what {manifest.name}@{manifest.version} was built and judged with",
                hint=f"build it again: trtd build {manifest.spec_file}",
                where=manifest.spec_file,
            )


def _spec_of(manifest: Manifest) -> Spec:
    try:
        return Spec.model_validate(manifest.spec)
    except ValidationError as error:
        raise RegistryError(
            f"the spec in the manifest of {manifest.name}@{manifest.version} is none that this trtd reads",
            hint=f"another version of trtd published it: trtd build {manifest.spec_file}",
        ) from error
