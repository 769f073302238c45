"""From a spec to a Paddle engine: the model stays what it is, and what is said to Paddle makes the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from trtd.engines.opening import EngineFiles
from trtd.engines.paddle.settings import PaddleSettings
from trtd.pipeline.contracts import (
    ENGINE_FILE,
    PADDLE_TABLES_FILE,
    PUBLISHED_FOLDER,
    SUMMARY_FILE,
    PaddleBuildInputs,
    PaddleCalibrateInputs,
    PaddlePrepareInputs,
    PaddleTables,
)
from trtd.pipeline.intake import Intake, Quantized
from trtd.pipeline.made import MadeEngine, made_of, own_scales, reference_of
from trtd.pipeline.paddle_settings import settings_of
from trtd.pipeline.planning import plan_of
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner
from trtd.registry.triton_paddle import accelerators, limits
from trtd.spec.fields import Precision


def make_paddle(
    intake: Intake, runner: StageRunner, request: Request, quantized: Quantized | None = None
) -> MadeEngine:
    """Make the engine of the runner's plan, of the quantized model beside the float one if that is given."""
    reference = reference_of(intake, runner, request)
    its_intake, its_runner = made_of(intake, runner, quantized)
    precision = _precision(runner)
    settings = settings_of(its_intake, its_intake.facts, precision)
    prepared = _prepare(its_intake, its_runner, settings)
    tables = _calibrate(its_intake, its_runner, settings, prepared)
    build = partial(_build, its_intake, its_runner, settings, prepared, tables)
    return MadeEngine(
        converted=prepared,
        reference=reference,
        graph=prepared,
        summary=prepared / SUMMARY_FILE,
        table=None,
        files=build(),
        baselines=_baselines(intake, runner),
        paddle_tables=tables and tables / PADDLE_TABLES_FILE,
        notes=(*own_scales(intake), *_told(settings, tables), *limits(settings)),
        accelerators=accelerators(settings),
        again=None if settings.tensorrt is None else lambda out: (build(out), ()),
    )


def published_paddle(
    intake: Intake,
    runner: StageRunner,
    request: Request,
    quantized: Quantized | None,
    files: EngineFiles,
    notes: tuple[str, ...],
) -> MadeEngine:
    """A published engine, with everything beside it that judging needs made again, and the notes of its making."""
    its_intake, its_runner = made_of(intake, runner, quantized)
    prepared = _prepare(its_intake, its_runner, settings_of(its_intake, its_intake.facts, _precision(runner)))
    return MadeEngine(
        converted=prepared,
        reference=reference_of(intake, runner, request),
        graph=prepared,
        summary=prepared / SUMMARY_FILE,
        table=None,
        files=files,
        baselines=_baselines(intake, runner),
        notes=notes,
    )


def _precision(runner: StageRunner) -> Precision:
    precision: Precision = runner.plan.precision  # type: ignore[assignment]  # a plan is of a spec's precision
    return precision


def _prepare(intake: Intake, runner: StageRunner, settings: PaddleSettings) -> Path:
    collects = settings.tensorrt is not None and settings.tensorrt.shape_range_file != ""
    inputs = PaddlePrepareInputs(
        source=intake.source,
        facts=intake.facts,
        settings=settings,
        mixed=intake.spec.engine.paddle.convert_to_mixed_precision and settings.precision in ("Half", "Bfloat16"),
        shapes_of=(intake.data.calibration or intake.data.heldout) if collects else None,
        profiles=intake.profiles,
        batch=intake.batch,
    )
    return runner.run("paddle-prepare", inputs)


def _calibrate(intake: Intake, runner: StageRunner, settings: PaddleSettings, prepared: Path) -> Path | None:
    if settings.tensorrt is None or not settings.tensorrt.use_calib_mode:
        return None
    calibration, data = intake.spec.calibration, intake.data.calibration
    assert calibration is not None
    assert data is not None
    inputs = PaddleCalibrateInputs(
        prepared=prepared,
        model_digest=intake.facts.digest,
        settings=settings,
        calibration=data,
        batch=calibration.batch,
    )
    return runner.run("paddle-calibrate", inputs)


def _build(
    intake: Intake,
    runner: StageRunner,
    settings: PaddleSettings,
    prepared: Path,
    tables: Path | None,
    out: Path | None = None,
) -> EngineFiles:
    """The engine; into ``out``, an empty folder, whatever the store holds."""
    inputs = PaddleBuildInputs(
        prepared=prepared,
        tables=tables,
        target=runner.plan.target,
        settings=settings,
        profiles=intake.profiles,
        heldout=intake.data.heldout,
        batch=intake.batch,
    )
    folder = runner.run("paddle-build", inputs) if out is None else runner.run_into(out, "paddle-build", inputs)
    files = EngineFiles.model_validate_json((folder / ENGINE_FILE).read_bytes())
    return files.model_copy(update={"folder": folder / PUBLISHED_FOLDER})


def _baselines(intake: Intake, runner: StageRunner) -> dict[str, EngineFiles]:
    """FP32 on the same target and, where the spec builds FP16 beside INT8, that too; of the float model."""
    wanted: list[Precision] = ["fp32"]
    if runner.plan.precision == "int8" and "fp16" in intake.spec.engine.precisions:
        wanted.append("fp16")
    made: dict[str, EngineFiles] = {}
    for precision in wanted:
        sibling = replace(runner, plan=plan_of(intake, precision, name=runner.plan.name))
        settings = settings_of(intake, intake.facts, precision)
        made[precision] = _build(intake, sibling, settings, _prepare(intake, sibling, settings), None)
    return made


def _told(settings: PaddleSettings, tables: Path | None) -> Iterator[str]:
    """What a report should say of how the engine was made."""
    if settings.tensorrt is None and settings.precision != "Float32":
        yield f"Paddle calls its own {settings.precision} kernels experimental."
    if tables is not None:
        found = PaddleTables.model_validate_json((tables / PADDLE_TABLES_FILE).read_bytes())
        tensors, header = sum(table.tensors for table in found.tables), found.tables[0].header
        yield f"TensorRT calibrated on {found.samples} items: {len(found.tables)} tables ({header}), {tensors} ranges."
