"""The graph in the engine's precision, from the converted one and, for INT8, the calibration table."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from trtd.calibrate.methods import with_percentile
from trtd.calibrate.table import CalibrationTable, read_table, write_table
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.table import BACKENDS
from trtd.errors import QuantizationError
from trtd.pipeline.contracts import FOLDED_FILE, GRAPH_FILE, SUMMARY_FILE, TABLE_FILE, QuantizeInputs, QuantizeSummary
from trtd.pipeline.progress import Progress
from trtd.quantize.fp16 import to_fp16
from trtd.quantize.graph import load, save
from trtd.quantize.imported import QUANTIZATION_FILE, read_quantization
from trtd.quantize.insert_imported import insert_as_paddle, insert_imported
from trtd.quantize.qdq import insert_qdq
from trtd.quantize.targets import placement_for
from trtd.store.digest import file_digest


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``model.onnx`` and ``summary.json``; loads the graph once: it is the engine, or stands in for it."""
    job = QuantizeInputs.model_validate(inputs)
    progress(0, 2, job.precision)
    _refuse_idle_exclusions(job)
    summary = _write(job, out)
    progress(1, 2, "load")
    OnnxRuntimeRunner(out / GRAPH_FILE, emulate=BACKENDS[job.target].compiles).close()
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=1))
    progress(2, 2, "")
    return {}


def _write(job: QuantizeInputs, out: Path) -> QuantizeSummary:
    folded, lowered = job.converted / FOLDED_FILE, out / GRAPH_FILE
    if job.precision == "int8":
        return _write_int8(job, out)
    if job.precision == "fp16":
        kept = to_fp16(folded, lowered, exclude=job.quantization.exclude, exclude_ops=job.quantization.exclude_ops)
        graph = load(folded).graph
        same = {v.name: v.name for node in graph for v in node.outputs if v.name}
        return QuantizeSummary(
            lowered=len(graph) - len(kept),
            nodes=tuple(node.name or "" for node in graph if node.name not in kept),
            kept_float=dict.fromkeys(kept, "keeps FP32 for its range or its kernels"),
            tensors=same,
        )
    save(load(folded), lowered)
    return QuantizeSummary(lowered=0, kept_float={}, tensors={})


def _write_int8(job: QuantizeInputs, out: Path) -> QuantizeSummary:
    model = load(job.converted / FOLDED_FILE)
    placement = placement_for(job.target, job.quantization.activation, job.device)
    scales, excluded = job.converted / QUANTIZATION_FILE, _excluded(job)
    if not scales.is_file():
        written = insert_qdq(model, _table(job, out), placement, method=job.method, **excluded)
    elif job.quantization.imported == "paddle":
        written = insert_as_paddle(model, read_quantization(scales), placement.activation)
    else:
        written = insert_imported(model, read_quantization(scales), placement, **excluded)
    if _float_precision(job) == "fp16":
        rounded = out / "rounded.onnx"
        save(model, rounded)
        to_fp16(rounded, out / GRAPH_FILE, float16_scales=placement.float16_scales)
        for leftover in out.glob("rounded.onnx*"):
            leftover.unlink()
    else:
        save(model, out / GRAPH_FILE)
    return QuantizeSummary(
        lowered=len(written.nodes),
        nodes=tuple(written.nodes),
        kept_float=written.kept_float,
        tensors=written.tensors,
    )


def _table(job: QuantizeInputs, out: Path) -> CalibrationTable:
    """The calibration table; left in ``out`` as it was used: the percentile may be another than the pass's."""
    if job.table is None:
        raise QuantizationError("there is no calibration table", hint="add [calibration] to the spec")
    table = with_percentile(read_table(job.table), job.percentile)
    if table.model_digest != file_digest(job.converted / FOLDED_FILE):
        raise QuantizationError(
            "the calibration table belongs to another graph", hint="trtd calibrate SPEC", where=str(job.table)
        )
    write_table(table, out / TABLE_FILE)
    return table


def _excluded(job: QuantizeInputs) -> dict[str, Sequence[str]]:
    return {"exclude": job.quantization.exclude, "exclude_ops": job.quantization.exclude_ops}


def _float_precision(job: QuantizeInputs) -> str:
    wanted = job.quantization.float_precision
    if wanted == "auto":
        return "fp16" if BACKENDS[job.target].native_fp16 else "fp32"
    return wanted


def _refuse_idle_exclusions(job: QuantizeInputs) -> None:
    """A name that is misspelt, or that another version of the converter gave, would change nothing in silence."""
    graph = load(job.converted / FOLDED_FILE).graph
    _refuse_idle("exclude", job.quantization.exclude, sorted({node.name or "" for node in graph}))
    _refuse_idle("exclude_ops", job.quantization.exclude_ops, sorted({node.op_type for node in graph}))


def _refuse_idle(key: str, patterns: Sequence[str], known: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=1)
            raise QuantizationError(
                f"[quantization] {key} names {pattern!r}, which matches none of the graph's {len(known)}",
                hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:8])}, …",
            )
