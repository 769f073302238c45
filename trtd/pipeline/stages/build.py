"""The engine of one precision, from the converted graph and, for INT8, the calibration table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trtd.calibrate.methods import with_percentile
from trtd.calibrate.table import read_table
from trtd.engines.cpu import cpu_facts
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.errors import QuantizationError
from trtd.pipeline.contracts import ENGINE_FILE, FOLDED_FILE, FP32_FILE, SUMMARY_FILE, BuildInputs, BuildSummary
from trtd.pipeline.progress import Progress
from trtd.quantize.fp16 import to_fp16
from trtd.quantize.graph import load, save
from trtd.quantize.qdq import insert_qdq
from trtd.quantize.targets import placement_for
from trtd.store.digest import file_digest


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``model.onnx`` and ``summary.json``; loads the engine once to be sure that the target takes it."""
    job = BuildInputs.model_validate(inputs)
    progress(0, 2, job.precision)
    summary = _write(job, out)
    progress(1, 2, "load")
    OnnxRuntimeRunner(out / ENGINE_FILE).close()
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=1))
    progress(2, 2, "")
    return {}


def _write(job: BuildInputs, out: Path) -> BuildSummary:
    fp32, engine = job.converted / FP32_FILE, out / ENGINE_FILE
    if job.precision == "int8":
        return _write_int8(job, engine)
    if job.precision == "fp16":
        kept = to_fp16(fp32, engine, exclude=job.quantization.exclude, exclude_ops=job.quantization.exclude_ops)
        graph = load(fp32).graph
        same = {v.name: v.name for node in graph for v in node.outputs if v.name}
        return BuildSummary(
            lowered=len(graph) - len(kept),
            kept_float=dict.fromkeys(kept, "keeps FP32 for its range or its kernels"),
            tensors=same,
            fp32_graph=FP32_FILE,
        )
    for file in job.converted.glob(f"{FP32_FILE}*"):
        shutil.copyfile(file, out / file.name)
    return BuildSummary(lowered=0, kept_float={}, tensors={}, fp32_graph=FP32_FILE)


def _write_int8(job: BuildInputs, engine: Path) -> BuildSummary:
    folded = job.converted / FOLDED_FILE
    if job.table is None:
        raise QuantizationError("there is no calibration table", hint="add [calibration] to the spec")
    table = with_percentile(read_table(job.table), job.percentile)
    if table.model_digest != file_digest(folded):
        raise QuantizationError(
            "the calibration table belongs to another graph", hint="trtd calibrate SPEC", where=str(job.table)
        )
    model = load(folded)
    placement = placement_for(job.target, job.quantization.activation, vnni=cpu_facts().vnni)
    written = insert_qdq(
        model,
        table,
        placement,
        method=job.method,
        exclude=job.quantization.exclude,
        exclude_ops=job.quantization.exclude_ops,
    )
    save(model, engine)
    return BuildSummary(
        lowered=len(written.nodes), kept_float=written.kept_float, tensors=written.tensors, fp32_graph=FOLDED_FILE
    )
