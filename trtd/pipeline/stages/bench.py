"""A published engine and FP32, timed side by side and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.pipeline.contracts import ENGINE_FILE, FP32_FILE, BenchInputs, Timed
from trtd.pipeline.progress import Progress
from trtd.verify.latency import side_by_side


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes nothing; returns a :class:`Timed`."""
    job = BenchInputs.model_validate(inputs)
    engine, fp32 = side_by_side(
        OnnxRuntimeRunner(job.engine / ENGINE_FILE, threads=job.threads),
        OnnxRuntimeRunner(job.converted / FP32_FILE, threads=job.threads),
        job.heldout.timing_feeds(job.batch),
        runs=job.runs,
        progress=lambda done, total: progress(done, total, "latency"),
    )
    return Timed(engine=engine, fp32=fp32).model_dump(mode="json")
