"""The engine against the original model: fidelity on every held-out item, latency side by side, gates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trtd.calibrate.items import Batch, ItemRef
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.pipeline.contracts import (
    ENGINE_FILE,
    FOLDED_FILE,
    FP32_FILE,
    REPORT_FILE,
    BuildSummary,
    VerifyInputs,
    output_file,
)
from trtd.pipeline.progress import Progress
from trtd.quantize.graph import load
from trtd.quantize.tap import tap
from trtd.verify.compare import Comparison, compare, tensor_errors
from trtd.verify.gates import judge
from trtd.verify.latency import side_by_side
from trtd.verify.report import Report, TensorError
from trtd.verify.task import Metric, open_metric, read_labels

LOCALIZED_ITEMS = 4
FEW_ITEMS = 30


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``report.json``."""
    job = VerifyInputs.model_validate(inputs)
    engine = OnnxRuntimeRunner(job.engine / ENGINE_FILE, threads=job.threads)
    fp32 = OnnxRuntimeRunner(job.converted / FP32_FILE, threads=job.threads)
    comparison, metric = _compare(job, engine, fp32, progress)
    worst = _localize(job, out, progress)
    engine_latency, fp32_latency = side_by_side(
        engine,
        fp32,
        job.heldout.timing_feeds(job.batch),
        runs=job.verify.latency_runs,
        progress=lambda done, total: progress(done, total, "latency"),
    )
    task = metric.result() if metric else None
    speedup = fp32_latency.p50_ms / engine_latency.p50_ms
    report = Report(
        name=job.name,
        target=job.target,
        precision=job.precision,
        proof="verified",
        reference=job.reference_name,
        items=comparison.items,
        fidelity=comparison.fidelity(),
        conversion=comparison.conversion(),
        engine_latency=engine_latency,
        fp32_latency=fp32_latency,
        speedup=speedup,
        engine_bytes=_bytes(job.engine, ENGINE_FILE),
        fp32_bytes=_bytes(job.converted, FP32_FILE),
        gates=judge(
            job.verify.gates,
            job.precision,
            fidelity=comparison.fidelity(),
            speedup=speedup,
            metric=task,
            worst=worst[0] if worst else None,
        ),
        worst_tensors=worst,
        output_errors=comparison.errors(),
        metric=task,
        notes=_notes(job),
        tools=job.tools,
    )
    (out / REPORT_FILE).write_text(report.model_dump_json(indent=1))
    return {"passed": report.passed}


def _compare(
    job: VerifyInputs, engine: OnnxRuntimeRunner, fp32: OnnxRuntimeRunner, progress: Progress
) -> tuple[Comparison, Metric | None]:
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
        progress=lambda done: progress(done, total, "fidelity"),
    )
    return comparison, metric


def _metric(job: VerifyInputs, refs: list[ItemRef]) -> Metric | None:
    if job.verify.metric is None:
        return None
    labels = None if job.labels is None else read_labels(job.labels, refs, job.heldout.open().items)
    return open_metric(job.verify.metric, job.spec_folder, labels, hooks_allowed=job.hooks_allowed)


def _localize(job: VerifyInputs, out: Path, progress: Progress) -> tuple[TensorError, ...]:
    """Compare inner tensors on a few items, so that a missed gate can name the operator to blame."""
    summary = BuildSummary.model_validate_json(job.summary.read_bytes())
    if not summary.tensors:
        return ()
    progress(0, 1, "inner tensors")
    fp32_graph = job.converted / FOLDED_FILE
    graph = load(fp32_graph).graph
    producers = {v.name: _to_blame(v, summary) for n in graph for v in n.outputs if v.name}
    taps = out / "fp32.tapped.onnx", out / "engine.tapped.onnx"
    known = set(tap(fp32_graph, [t for t in summary.tensors if t in producers], taps[0]))
    found = set(tap(job.engine / ENGINE_FILE, [summary.tensors[t] for t in known], taps[1]))
    pairs = {t: summary.tensors[t] for t in summary.tensors if t in known and summary.tensors[t] in found}
    runners = [OnnxRuntimeRunner(path, threads=job.threads, fused=False) for path in taps]
    batches = (batch.feeds for batch in islice(job.heldout.batches(), LOCALIZED_ITEMS))
    errors = tensor_errors(runners[1], runners[0], batches, pairs, producers)
    for leftover in out.glob("*.tapped.onnx*"):
        leftover.unlink()
    progress(1, 1, "inner tensors")
    return errors


def _to_blame(value: Any, summary: BuildSummary) -> tuple[str, str]:
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


def _bytes(folder: Path, file: str) -> int:
    return sum(f.stat().st_size for f in folder.glob(f"{file}*"))


def _notes(job: VerifyInputs) -> tuple[str, ...]:
    count = len(job.heldout.items)
    few = (
        f"Only {count} held-out items: give more with [verify] data for a firmer judgement."
        if count < FEW_ITEMS
        else ""
    )
    return (*job.notes, *([few] if few else []))
