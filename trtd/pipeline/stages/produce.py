"""A float Paddle program to a quantized one, by Paddle's own post-training quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.model.paddle_ptq import PtqOptions, produce_ptq
from trtd.pipeline.contracts import PRODUCED_FILE, ProduceInputs
from trtd.pipeline.progress import Progress


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``inference.pdmodel`` and ``inference.pdiparams``."""
    job = ProduceInputs.model_validate(inputs)
    options = PtqOptions(algorithm=job.ptq.algorithm, hist_percent=job.ptq.hist_percent, skip=tuple(job.ptq.skip))
    produce_ptq(
        job.source,
        (batch.feeds for batch in job.calibration.batches(job.batch)),
        out,
        options,
        progress.log,
        lambda done, total: progress(done, total, f"Paddle's {job.ptq.algorithm}"),
    )
    job.calibration.refuse_changed()
    return {"file": PRODUCED_FILE}
