"""Calibration by TensorRT itself, inside Paddle: one table for each subgraph, written when the predictor ends.

Source: Paddle 2.6.2, ``trt_int8_calibrator.cc``, ``tensorrt_subgraph_pass.cc`` and ``analysis_predictor.cc``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trtd.calibrate.items import Batch, shapes_of
from trtd.engines.hardware import release
from trtd.engines.paddle.config import make_runner
from trtd.engines.paddle.installed import installed_paddle
from trtd.engines.paddle.predictor import PaddleRunner
from trtd.engines.paddle.settings import OPT_CACHE, PaddleSettings, PaddleTable
from trtd.engines.paddle.subgraphs import counted
from trtd.engines.paddle.tables import read_table, tables_in
from trtd.errors import DataError, EngineError, EnvironmentMissing

LAST_WITH_CALIBRATORS = 10


def calibrate(
    module: Any,
    settings: PaddleSettings,
    folder: Path,
    batches: Iterable[Batch],
    progress: Callable[[int], None],
) -> tuple[list[PaddleTable], int]:
    """Feed the batches, end the predictor, and find the tables that it left in ``_opt_cache`` of ``folder``.

    They are found by comparing the folder before and after, and counted against the subgraphs: one that no batch
    reached has no table, and would run without INT8 in silence. Returns them, and how many items were fed.

    Args:
        settings: Int8, with ``use_calib_mode``.
        folder: with the model; Paddle writes there.
        batches: all of one shape; a last one that is smaller is left out.
        progress: called with the number of items fed.

    Raises:
        DataError: batches of different shapes, or none.
        EngineError: no subgraph was found, or one has no table.
        EnvironmentMissing: the folder cannot be written to, or what calibration needs is not here.
    """
    if not os.access(folder, os.W_OK):
        raise EnvironmentMissing(
            "Paddle writes calibration tables beside the model, and may not write there",
            where=str(folder),
            hint="make the folder writable for this user",
        )
    found = installed_paddle(module).tensorrt_found
    if release(found)[0] > LAST_WITH_CALIBRATORS:
        raise EnvironmentMissing(
            f"TensorRT {found} has no calibrators; {LAST_WITH_CALIBRATORS} was the last that had them",
            where=str(folder / settings.model_file),
            hint="give a model that Paddle or PaddleSlim has quantized, or run where Paddle finds an older TensorRT",
        )
    before = tables_in(folder / OPT_CACHE)
    with counted() as subgraphs:
        runner = make_runner(module, settings, folder, log=True)
    if not subgraphs.nodes:
        assert settings.tensorrt is not None
        raise EngineError(
            f"Paddle gives nothing of this model to TensorRT: no subgraph has more than "
            f"{settings.tensorrt.min_subgraph_size} operators",
            where=str(folder / settings.model_file),
            hint="lower min_subgraph_size in [engine.paddle], or disable fewer operators",
        )
    fed = _feed(runner, batches, progress)
    runner.close()  # the calibration computation itself ends here, and may take long
    made = sorted(tables_in(folder / OPT_CACHE) - before)
    if len(made) < len(subgraphs.nodes):
        raise EngineError(
            f"{len(made)} of {len(subgraphs.nodes)} subgraphs have a calibration table; the rest would not run in INT8",
            where=str(folder / OPT_CACHE),
            hint="no calibration item reaches them: give inputs that do, or raise min_subgraph_size in [engine.paddle]",
        )
    return [read_table(folder / OPT_CACHE / name) for name in made], fed


def _feed(runner: PaddleRunner, batches: Iterable[Batch], progress: Callable[[int], None]) -> int:
    first: list[tuple[int, ...]] | None = None
    done = 0
    for batch in batches:
        shapes = shapes_of(batch.feeds)
        first = first or shapes
        if shapes != first:
            if all(have[1:] == want[1:] and have[0] < want[0] for have, want in zip(shapes, first, strict=True)):
                continue  # the last, smaller batch: TensorRT would read past its end
            raise DataError(
                f"calibration batches have different shapes: {first} and {shapes}",
                where=str(batch.items[0]),
                hint="TensorRT calibrates with one shape: add resize to [calibration.preprocess], or give items of one",
            )
        runner.run(batch.feeds)
        done += len(batch.items)
        progress(done)
    if first is None:
        raise DataError("there are no calibration batches", hint="give real inputs, some hundred")
    return done
