"""A Paddle model as it will be run: its files, converted to mixed precision and with collected shapes if so asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trtd.engines.paddle.precision import convert_to_mixed_precision
from trtd.engines.paddle.predictor import paddle_inference
from trtd.engines.paddle.settings import SHAPE_RANGE_FILE
from trtd.engines.paddle.shapes import collect_shape_ranges
from trtd.engines.protocol import Arrays
from trtd.errors import ModelError
from trtd.model.inspect import files_digest
from trtd.pipeline.contracts import SUMMARY_FILE, ConvertResult, PaddlePrepareInputs, QuantizeSummary
from trtd.pipeline.feed import Feed
from trtd.pipeline.progress import Progress

SHAPE_BATCHES = 64


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes the model's files, ``shape_range_info.pbtxt`` if it was asked for, and ``summary.json``."""
    job = PaddlePrepareInputs.model_validate(inputs)
    settings, source = job.settings, job.source
    progress(0, 3, "copy")
    if job.mixed:
        assert source.params_file is not None
        progress(1, 3, f"to {settings.precision}")
        convert_to_mixed_precision(
            paddle_inference(str(source.model_file)),
            source.model_file,
            source.params_file,
            out / settings.model_file,
            out / settings.params_file,
            settings.precision,
        )
    else:
        shutil.copyfile(source.model_file, out / settings.model_file)
        if source.params_file is not None:
            shutil.copyfile(source.params_file, out / settings.params_file)
    if files_digest(source.files) != job.facts.digest:
        raise ModelError(
            "the model changed while it was being copied",
            where=str(source.model_file),
            hint="run the command again once nobody writes there any more",
        )
    progress(2, 3, "shapes")
    if job.shapes_of is not None:
        module = paddle_inference(str(source.model_file))
        collect_shape_ranges(module, settings, out, _feeds(job.shapes_of, job), out / SHAPE_RANGE_FILE)
    summary = QuantizeSummary(lowered=0, kept_float={}, tensors={})
    (out / SUMMARY_FILE).write_text(summary.model_dump_json(indent=1))
    progress(3, 3, "")
    return ConvertResult(inputs=job.facts.inputs, outputs=job.facts.outputs, folded=0).model_dump(mode="json")


def _feeds(feed: Feed, job: PaddlePrepareInputs) -> Iterator[Arrays]:
    """Real batches, and what the spec allows at least and at most, which data alone may never reach: its values tiled.

    Paddle refuses what is outside of the ranges that it has seen.
    """
    first: Arrays | None = None
    for batch in islice(feed.batches(job.batch), SHAPE_BATCHES):
        first = first or batch.feeds
        yield batch.feeds
    for end in ("min", "max"):
        yield {name: np.resize(array, getattr(job.profiles[name], end)) for name, array in (first or {}).items()}
