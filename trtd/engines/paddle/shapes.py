"""Ranges of the shapes of all tensors, collected by Paddle on real data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trtd.engines.paddle.predictor import PaddleRunner
from trtd.engines.paddle.settings import PaddleSettings
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError


def collect_shape_ranges(
    module: Any, settings: PaddleSettings, folder: Path, feeds: Iterable[Arrays], out: Path
) -> None:
    """Run the model without TensorRT and let Paddle write what shapes there were: smallest, largest, most frequent.

    Raises:
        EngineError: Paddle wrote nothing.
    """
    where = str(folder / settings.model_file)
    config = module.Config(where, str(folder / settings.params_file) if settings.params_file else "")
    config.disable_glog_info()
    config.disable_mkldnn()
    config.collect_shape_range_info(str(out))
    runner = PaddleRunner(module, config, settings.inputs, where)
    for arrays in feeds:
        runner.run(arrays)
    runner.close()  # the file is written when the predictor ends
    if not out.is_file() or not out.stat().st_size:
        raise EngineError(
            "Paddle collected no shapes", where=where, hint="leave collect_shape_range_info out of [engine.paddle]"
        )
