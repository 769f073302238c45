"""The range of every tensor that may need a scale: by one pass over the calibration set, or out of a given table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtd.calibrate.methods import make_table
from trtd.calibrate.observe import observe
from trtd.calibrate.table import CalibrationTable, read_table, write_table
from trtd.calibrate.tensorrt_cache import TensorRTCache, is_cache, read_cache, scales_of, table_of
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.errors import EngineError
from trtd.pipeline.contracts import FOLDED_FILE, TABLE_FILE, CalibrateInputs
from trtd.pipeline.feed import Feed
from trtd.pipeline.progress import Progress
from trtd.quantize.graph import load, tensor_names
from trtd.quantize.placement import observed_tensors
from trtd.quantize.tap import tap
from trtd.quantize.targets import placement_for
from trtd.store.digest import file_digest


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``calibration.json``, with the ranges of every method."""
    job = CalibrateInputs.model_validate(inputs)
    folded = job.converted / FOLDED_FILE
    graph = load(folded).graph
    names = observed_tensors(graph, placement_for(job.target, job.activation, job.device))
    if job.given is not None:
        table = _given(job.given, names, tensor_names(graph), file_digest(folded))
    else:
        assert job.calibration is not None
        table = _observed(job, job.calibration, folded, names, out, progress)
    write_table(table, out / TABLE_FILE)
    return {"tensors": len(table.tensors), "samples": table.samples}


def _observed(
    job: CalibrateInputs, feed: Feed, folded: Path, names: Sequence[str], out: Path, progress: Progress
) -> CalibrationTable:
    tapped = out / "tapped.onnx"
    tap(folded, names, tapped)
    runner = _open(tapped, job.threads, progress)
    for leftover in out.glob("tapped.onnx*"):
        leftover.unlink()
    total = len(feed.items)
    observers = observe(
        lambda feeds: runner.run(feeds) | feeds,  # model inputs are tensors too
        feed.batches(job.batch),
        names,
        progress=lambda done: progress(done, total, f"{len(names)} tensors"),
    )
    feed.refuse_changed()
    return make_table(observers, model_digest=file_digest(folded), set_digest=feed.digest, samples=total)


def _given(path: Path, names: Sequence[str], known: Sequence[str], model_digest: str) -> CalibrationTable:
    """A table of trtd's own if it is of this very graph, else only its ranges, like those of a cache."""
    with path.open("rb") as file:
        foreign = is_cache(file.read(16))
    if not foreign:
        table = read_table(path)
        if table.model_digest == model_digest and table.tensors.keys() >= set(names):
            return table
    cache = read_cache(path) if foreign else TensorRTCache("", "", scales_of(read_table(path), "mse"))
    return table_of(
        cache, needed=names, known=known, model_digest=model_digest, digest=file_digest(path), where=str(path)
    )


def _open(tapped: Path, threads: int, progress: Progress) -> OnnxRuntimeRunner:
    try:
        return OnnxRuntimeRunner(tapped, threads=threads, spin=False)
    except EngineError as error:
        progress.log(f"{error.message}; calibrating without fusions, which is slower")
        return OnnxRuntimeRunner(tapped, threads=threads, spin=False, fused=False)
