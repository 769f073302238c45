"""The engine against the original model: fidelity on every held-out item, latency side by side, gates.

Where the engine cannot run, its graph runs in ONNX Runtime on the CPU in its place, nothing is timed, and the report
says ``emulated``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trtd.calibrate.items import Batch, ItemRef
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.opening import open_engine
from trtd.engines.protocol import Runner
from trtd.engines.table import BACKENDS
from trtd.engines.tensorrt.layers import Layers
from trtd.engines.tensorrt.run import TensorRTRunner
from trtd.pipeline.contracts import (
    FOLDED_FILE,
    FP32_FILE,
    GRAPH_FILE,
    LAYERS_FILE,
    REPORT_FILE,
    QuantizeSummary,
    VerifyInputs,
    output_file,
)
from trtd.pipeline.progress import Progress
from trtd.pipeline.stages.timing import Timings, time_all
from trtd.quantize.graph import load
from trtd.quantize.tap import tap
from trtd.verify.compare import Comparison, compare, tensor_errors
from trtd.verify.gates import judge
from trtd.verify.report import Report, TensorError
from trtd.verify.task import Metric, open_metric, read_labels

LOCALIZED_ITEMS = 4
PROFILED_RUNS = 20
FEW_ITEMS = 30


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``report.json``."""
    job = VerifyInputs.model_validate(inputs)
    runners = _open(job)
    comparison, metric = _compare(job, runners["engine"], runners["fp32"], progress)
    worst = _localize(job, out, progress)
    timings = Timings()
    if job.engine is not None:
        feeds = job.heldout.timing_feeds(job.batch)
        timings = time_all(runners, feeds, job.verify.latency_runs, progress)
    layers = _layers(job, runners["engine"], out)
    for runner in runners.values():
        runner.close()
    task = metric.result() if metric else None
    report = Report(
        name=job.name,
        target=job.target,
        precision=job.precision,
        proof="emulated" if job.engine is None else "verified",
        reference=job.reference_name,
        items=comparison.items,
        fidelity=comparison.fidelity(),
        conversion=comparison.conversion(),
        engine_latency=timings.host.get("engine"),
        fp32_latency=timings.host.get("fp32"),
        fp16_latency=timings.host.get("fp16"),
        device_times=timings.device,
        speedup=timings.over("fp32"),
        speedup_over_fp16=timings.over("fp16"),
        engine_bytes=job.engine_bytes,
        fp32_bytes=job.baselines["fp32"].size_bytes,
        gates=judge(
            job.verify.gates,
            job.precision,
            tf32=job.tf32,
            by_paddle=BACKENDS[job.target].family == "paddle",
            fidelity=comparison.fidelity(),
            speed=timings.speed(native_fp16=BACKENDS[job.target].native_fp16),
            metric=task,
            worst=worst[0] if worst else None,
        ),
        worst_tensors=worst,
        output_errors=comparison.errors(),
        metric=task,
        notes=_notes(job, layers),
        tools=job.tools,
    )
    (out / REPORT_FILE).write_text(report.model_dump_json(indent=1))
    return {"passed": report.passed}


def _open(job: VerifyInputs) -> Mapping[str, Runner]:
    """``engine`` and what it is held against by precision, ``fp32`` first: each on the target, or none is."""
    if job.engine is None:
        files = {"engine": job.graph / GRAPH_FILE, "fp32": job.converted / FP32_FILE}
        return {name: OnnxRuntimeRunner(file, threads=job.threads, emulate=True) for name, file in files.items()}
    return {
        name: open_engine(files, threads=job.threads, kernels=job.kernels)
        for name, files in {"engine": job.engine, **job.baselines}.items()
    }


def _compare(job: VerifyInputs, engine: Runner, fp32: Runner, progress: Progress) -> tuple[Comparison, Metric | None]:
    refs, total = job.heldout.refs(), len(job.heldout.items)
    metric = _metric(job, refs)
    current: list[Batch] = []

    def batches() -> Iterator[Batch]:
        for batch in job.heldout.batches():
            current[:] = [batch]
            yield batch

    def observe(outputs: dict[str, Any], reference: dict[str, Any]) -> None:
        if metric is not None:
            metric.update(current[0].items, outputs, reference)

    comparison = compare(
        engine,
        fp32,
        batches(),
        lambda number: [np.load(job.reference / output_file(number, i)) for i in range(job.outputs)],
        observe=observe,
        progress=lambda done: progress(done, total, "fidelity" if job.engine else "fidelity, emulated"),
    )
    return comparison, metric


def _metric(job: VerifyInputs, refs: list[ItemRef]) -> Metric | None:
    if job.verify.metric is None:
        return None
    labels = None if job.labels is None else read_labels(job.labels, refs, job.heldout.open().items)
    return open_metric(job.verify.metric, job.spec_folder, labels, hooks_allowed=job.hooks_allowed)


def _localize(job: VerifyInputs, out: Path, progress: Progress) -> tuple[TensorError, ...]:
    """Compare inner tensors on a few items, so that a missed gate can name the operator to blame.

    Of the graph, in ONNX Runtime: an engine shows no inner tensors.
    """
    summary = QuantizeSummary.model_validate_json(job.summary.read_bytes())
    if not summary.tensors:
        return ()
    progress(0, 1, "inner tensors")
    fp32_graph = job.converted / FOLDED_FILE
    graph = load(fp32_graph).graph
    producers = {v.name: _to_blame(v, summary) for n in graph for v in n.outputs if v.name}
    taps = out / "fp32.tapped.onnx", out / "engine.tapped.onnx"
    known = set(tap(fp32_graph, [t for t in summary.tensors if t in producers], taps[0]))
    found = set(tap(job.graph / GRAPH_FILE, [summary.tensors[t] for t in known], taps[1]))
    pairs = {t: summary.tensors[t] for t in summary.tensors if t in known and summary.tensors[t] in found}
    foreign = BACKENDS[job.target].compiles
    runners = [OnnxRuntimeRunner(path, threads=job.threads, fused=False, emulate=foreign) for path in taps]
    batches = (batch.feeds for batch in islice(job.heldout.batches(), LOCALIZED_ITEMS))
    errors = tensor_errors(runners[1], runners[0], batches, pairs, producers)
    for leftover in out.glob("*.tapped.onnx*"):
        leftover.unlink()
    progress(1, 1, "inner tensors")
    return errors


def _to_blame(value: Any, summary: QuantizeSummary) -> tuple[str, str]:
    """Name and type of the node whose exclusion keeps a tensor in float.

    That is the node that makes the tensor, or the one that its maker, an activation, is fused into, or one that wants
    it rounded: whichever runs in lower precision.
    """
    maker = value.producer()
    inner = maker.inputs[0] if maker.inputs else None
    fused = [] if inner is None or inner.name in summary.tensors else [inner.producer()]
    candidates = [maker, *fused, *(use.node for use in value.uses())]
    found = next((node for node in candidates if node is not None and node.name in summary.nodes), maker)
    return found.name or "", found.op_type


def _layers(job: VerifyInputs, engine: Runner, out: Path) -> Layers | None:
    """Ask an engine on a GPU what it really consists of; writes ``layers.json``."""
    if not isinstance(engine, TensorRTRunner):
        return None
    summary = QuantizeSummary.model_validate_json(job.summary.read_bytes())
    quantized = summary.nodes if job.precision == "int8" else ()
    found = engine.layers(quantized, job.heldout.timing_feeds(job.batch)[0], PROFILED_RUNS)
    (out / LAYERS_FILE).write_text(found.model_dump_json(indent=1))
    return found


def _notes(job: VerifyInputs, layers: Layers | None) -> tuple[str, ...]:
    notes = list(job.notes)
    if layers is not None and layers.not_in_8_bits:
        names = ", ".join(layers.not_in_8_bits[:5]) + (", …" if len(layers.not_in_8_bits) > 5 else "")
        share = f"{len(layers.not_in_8_bits)} of {layers.quantizable}"
        notes.append(f"{share} quantized nodes do not run in 8 bits in the engine: {names}.")
    if job.unverifiable:
        notes.append(
            f"Emulated on the CPU, not verified on its target: {job.unverifiable}. Speed was not judged. "
            f"trtd verify {job.name}, where such a device is, completes the verification."
        )
    if len(job.heldout.items) < FEW_ITEMS:
        count = len(job.heldout.items)
        notes.append(f"Only {count} held-out items: give more with [verify] data for a firmer judgement.")
    return tuple(notes)
