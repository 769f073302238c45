"""Calibration tables of TensorRT's own, by a Paddle predictor that is fed the calibration set and then ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trtd.engines.paddle.building import built_here
from trtd.engines.paddle.calibrate import calibrate
from trtd.engines.paddle.predictor import paddle_inference
from trtd.engines.paddle.settings import OPT_CACHE
from trtd.pipeline.contracts import PADDLE_TABLES_FILE, PaddleCalibrateInputs, PaddleTables
from trtd.pipeline.progress import Progress


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``_opt_cache`` with a table for each subgraph, and ``tables.json``."""
    job = PaddleCalibrateInputs.model_validate(inputs)
    work = out / "work"
    shutil.copytree(job.prepared, work)  # Paddle writes beside the model, and what is in the store stays as it is
    total = len(job.calibration.items)
    module = paddle_inference(str(work))
    note = f"TensorRT calibrates with {job.batch} a batch"
    tables, fed = calibrate(
        module, job.settings, work, job.calibration.batches(job.batch), lambda done: progress(done, total, note)
    )
    job.calibration.refuse_changed()
    shutil.move(work / OPT_CACHE, out / OPT_CACHE)
    shutil.rmtree(work)
    found = PaddleTables(
        model_digest=job.model_digest,
        set_digest=job.calibration.digest,
        samples=fed,
        settings=built_here(module, job.settings),
        tables=tuple(tables),
    )
    (out / PADDLE_TABLES_FILE).write_text(found.model_dump_json(indent=1))
    return {"tables": len(tables)}
