"""The original model in FP32 on the held-out items: what judges every engine made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trtd.engines.protocol import Runner
from trtd.engines.reference import open_reference
from trtd.pipeline.contracts import ReferenceInputs, output_file
from trtd.pipeline.progress import Progress


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes one ``00000.npy``, ``00000-1.npy`` … per held-out batch and output, in the model's order of outputs."""
    job = ReferenceInputs.model_validate(inputs)
    runner: Runner = open_reference(job.source, job.facts, threads=job.threads)
    names = [o.name for o in runner.outputs]
    total, done = len(job.heldout.items), 0
    for number, batch in enumerate(job.heldout.batches()):
        values = runner.run(batch.feeds)
        for index, name in enumerate(names):
            np.save(out / output_file(number, index), values[name], allow_pickle=False)
        done += len(batch.items)
        progress(done, total, "FP32 reference")
    job.heldout.refuse_changed()
    return {"outputs": names}
