"""From a spec to an engine that nobody has judged yet, stage by stage."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from trtd.engines.opening import EngineFiles
from trtd.engines.table import BACKENDS
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.pipeline.contracts import (
    ENGINE_FILE,
    FP32_FILE,
    GRAPH_FILE,
    PRODUCED_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    BuildInputs,
    CalibrateInputs,
    ConvertInputs,
    ProduceInputs,
    QuantizeInputs,
)
from trtd.pipeline.intake import Intake, Quantized
from trtd.pipeline.made import MadeEngine, made_of, own_scales, reference_of
from trtd.pipeline.making_paddle import make_paddle
from trtd.pipeline.planning import plan_of
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.spec.fields import Precision
from trtd.store.digest import file_digest


def make_engine(intake: Intake, runner: StageRunner, request: Request) -> MadeEngine:
    """Make the engine of the runner's plan."""
    if runner.plan.precision == "int8" and intake.spec.quantization.producer == "paddle-ptq":
        return make_from_quantized(intake, runner, request, produce(intake, runner))
    if BACKENDS[runner.plan.target].family == "paddle":
        return make_paddle(intake, runner, request)
    return _make(intake, runner, request, judged_by=(intake, runner))


def make_from_quantized(intake: Intake, runner: StageRunner, request: Request, quantized: Quantized) -> MadeEngine:
    """Make it of a quantized model, to be judged by, and timed beside, the float one of the intake."""
    if BACKENDS[runner.plan.target].family == "paddle":
        made = make_paddle(intake, runner, request, quantized)
    else:
        made = _make(*made_of(intake, runner, quantized), request, judged_by=(intake, runner))
    if intake.spec.quantization.producer == "paddle-ptq":
        origin = "Scales are those that Paddle's post-training quantization found."
    else:
        origin = f"Scales are those of {quantized.source.model_file}, the spec's quantized_model."
    return replace(made, quantized=quantized, notes=(origin, *made.notes))


def produce(intake: Intake, runner: StageRunner) -> Quantized:
    """The quantized model that Paddle makes of the float one."""
    calibration, data = intake.spec.calibration, intake.data.calibration
    assert calibration is not None
    assert data is not None
    inputs = ProduceInputs(
        source=intake.source, calibration=data, batch=calibration.batch, ptq=intake.spec.quantization.ptq
    )
    source = locate(runner.run("produce", inputs) / PRODUCED_FILE)
    return Quantized(source, read_facts(source))


def _make(
    intake: Intake, runner: StageRunner, request: Request, *, judged_by: tuple[Intake, StageRunner]
) -> MadeEngine:
    converted = convert(intake, runner)
    table = None
    if runner.plan.precision == "int8" and not intake.facts.quantized:
        table = runner.run("calibrate", calibrate_inputs(intake, converted, request)) / TABLE_FILE
    original, original_runner = judged_by
    reference = reference_of(original, original_runner, request)
    float_model = converted if original is intake else convert(original, original_runner)
    graph = runner.run("quantize", quantize_inputs(intake, runner, converted, table))
    files, warnings = compile_engine(intake, runner, graph)
    return MadeEngine(
        converted=converted,
        reference=reference,
        graph=graph,
        summary=graph / SUMMARY_FILE,
        table=graph / TABLE_FILE if table else None,
        files=files,
        baselines=make_baselines(original, original_runner, float_model),
        warnings=warnings,
        notes=own_scales(original),
        again=partial(compile_engine, intake, runner, graph) if BACKENDS[runner.plan.target].compiles else None,
    )


def convert(intake: Intake, runner: StageRunner) -> Path:
    """The source model as a float graph."""
    return runner.run("convert", ConvertInputs(source=intake.source, facts=intake.facts))


def compile_engine(
    intake: Intake, runner: StageRunner, graph: Path, out: Path | None = None
) -> tuple[EngineFiles, tuple[str, ...]]:
    """The engine made of ``graph``, and what its builder warned of. On targets that compile nothing it is the graph.

    Args:
        out: an empty folder to compile into, whatever the store holds; every kernel is timed anew then.
    """
    plan = runner.plan
    if not BACKENDS[plan.target].compiles:
        return graph_files(plan.target, graph, GRAPH_FILE), ()
    inputs = BuildInputs(
        graph=graph,
        target=plan.target,
        engine=intake.spec.engine,
        profiles=intake.profiles,
        timings=intake.timings if out is None else None,
        cache=runner.registry.private / "cache" if out is None else None,
    )
    folder = runner.run("build", inputs) if out is None else runner.run_into(out, "build", inputs)
    files = EngineFiles.model_validate_json((folder / ENGINE_FILE).read_bytes())
    return files.model_copy(update={"folder": folder}), tuple(stage_result(folder)["warnings"])


def make_baselines(intake: Intake, runner: StageRunner, converted: Path) -> dict[str, EngineFiles]:
    """FP32 on the same target and, where the spec builds FP16 beside INT8, that too."""
    plan, precisions = runner.plan, intake.spec.engine.precisions
    compiles = BACKENDS[plan.target].compiles
    made = {} if compiles else {"fp32": graph_files(plan.target, converted, FP32_FILE)}
    wanted: list[Precision] = ["fp32"] if compiles else []
    if plan.precision == "int8" and "fp16" in precisions:
        wanted.append("fp16")
    for precision in wanted:
        sibling = replace(runner, plan=plan_of(intake, precision, name=plan.name))
        graph = sibling.run("quantize", quantize_inputs(intake, sibling, converted, None))
        made[precision] = compile_engine(intake, sibling, graph)[0]
    return made


def graph_files(target: str, folder: Path, file: str) -> EngineFiles:
    """An ONNX file, with its external data if it has some, as an engine."""
    digests = {found.name: file_digest(found) for found in sorted(folder.glob(f"{file}*"))}
    return EngineFiles(target=target, folder=folder, digests=digests)


def calibrate_inputs(intake: Intake, converted: Path, request: Request) -> CalibrateInputs:
    calibration = intake.spec.calibration
    assert calibration is not None
    return CalibrateInputs(
        converted=converted,
        target=intake.spec.engine.only_target,
        device=intake.fingerprint,
        activation=intake.spec.quantization.activation,
        calibration=intake.data.calibration,
        given=intake.table,
        batch=calibration.batch,
        threads=request.used_threads,
    )


def quantize_inputs(intake: Intake, runner: StageRunner, converted: Path, table: Path | None) -> QuantizeInputs:
    calibration, plan = intake.spec.calibration, runner.plan
    return QuantizeInputs(
        converted=converted,
        table=table,
        method=calibration.method if calibration else "minmax",
        percentile=calibration.percentile if calibration else 99.99,
        target=plan.target,
        device=intake.fingerprint,
        precision=plan.precision,
        quantization=intake.spec.quantization,
    )
