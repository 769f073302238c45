"""A published engine and FP32, timed side by side and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.opening import open_engine
from trtd.pipeline.contracts import BenchInputs, Timed
from trtd.pipeline.progress import Progress
from trtd.pipeline.stages.timing import time_all


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes nothing; returns a :class:`Timed`."""
    job = BenchInputs.model_validate(inputs)
    runners = {
        name: open_engine(files, threads=job.threads, kernels=job.kernels)
        for name, files in (("engine", job.engine), ("fp32", job.baseline))
    }
    timings = time_all(runners, job.heldout.timing_feeds(job.batch), job.runs, progress)
    for runner in runners.values():
        runner.close()
    timed = Timed(engine=timings.host["engine"], fp32=timings.host["fp32"], device_times=timings.device)
    return timed.model_dump(mode="json")
