"""The original model in FP32 on the held-out items: what judges every engine made from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtd.calibrate.items import ItemRef
from trtd.engines.protocol import Runner
from trtd.engines.reference import open_reference
from trtd.errors import ModelError
from trtd.pipeline.contracts import ReferenceInputs, output_file
from trtd.pipeline.progress import Progress


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes one ``00000-0.npy``, ``00000-1.npy`` … per held-out batch and output, in the model's order of outputs."""
    job = ReferenceInputs.model_validate(inputs)
    runner: Runner = open_reference(job.source, job.facts, threads=job.threads)
    names = [o.name for o in runner.outputs]
    total, done = len(job.heldout.items), 0
    for number, batch in enumerate(job.heldout.batches()):
        values = runner.run(batch.feeds)
        for index, name in enumerate(names):
            _refuse_what_judges_nothing(values[name], name, batch.items)
            np.save(out / output_file(number, index), values[name], allow_pickle=False)
        done += len(batch.items)
        progress(done, total, "FP32 reference")
    job.heldout.refuse_changed()
    return {"outputs": names}


def _refuse_what_judges_nothing(values: np.ndarray[Any, Any], output: str, items: Sequence[ItemRef]) -> None:
    if not np.isfinite(values).all():
        raise ModelError(
            f"the original model, in FP32, gives NaN or infinity in output '{output}': nothing can be held to it",
            hint="most likely the input is not what the model was made for: compare [calibration.preprocess] with its "
            "training; or leave this item out; or export the model without what computes this output",
            where=", ".join(map(str, items)),
        )
