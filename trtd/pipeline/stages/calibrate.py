"""One pass over the calibration set: the range and histogram of every tensor that may need a scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.calibrate.methods import make_table
from trtd.calibrate.observe import observe
from trtd.calibrate.table import write_table
from trtd.engines.cpu import cpu_facts
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.errors import EngineError
from trtd.pipeline.contracts import FOLDED_FILE, TABLE_FILE, CalibrateInputs
from trtd.pipeline.progress import Progress
from trtd.quantize.graph import load
from trtd.quantize.placement import observed_tensors
from trtd.quantize.tap import tap
from trtd.quantize.targets import placement_for
from trtd.store.digest import file_digest


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``calibration.json``, with the ranges of every method."""
    job = CalibrateInputs.model_validate(inputs)
    folded = job.converted / FOLDED_FILE
    names = observed_tensors(load(folded).graph, placement_for(job.target, job.activation, vnni=cpu_facts().vnni))
    tapped = out / "tapped.onnx"
    tap(folded, names, tapped)
    runner = _open(tapped, job.threads, progress)
    for leftover in out.glob("tapped.onnx*"):
        leftover.unlink()
    total = len(job.calibration.items)
    observers = observe(
        lambda feeds: runner.run(feeds) | feeds,  # model inputs are tensors too
        job.calibration.batches(job.batch),
        names,
        progress=lambda done: progress(done, total, f"{len(names)} tensors"),
    )
    job.calibration.refuse_changed()
    table = make_table(observers, model_digest=file_digest(folded), set_digest=job.calibration.digest, samples=total)
    write_table(table, out / TABLE_FILE)
    return {"tensors": len(table.tensors), "samples": total}


def _open(tapped: Path, threads: int, progress: Progress) -> OnnxRuntimeRunner:
    try:
        return OnnxRuntimeRunner(tapped, threads=threads, spin=False)
    except EngineError as error:
        progress.log(f"{error.message}; calibrating without fusions, which is slower")
        return OnnxRuntimeRunner(tapped, threads=threads, spin=False, fused=False)
