"""Paddle's own mixed precision: weights converted in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.paddle.predictor import gist
from trtd.engines.paddle.settings import PaddlePrecision
from trtd.errors import EngineError, EnvironmentMissing


def convert_to_mixed_precision(
    module: Any, model: Path, params: Path, out_model: Path, out_params: Path, precision: PaddlePrecision
) -> None:
    """Write the model with weights in Half or Bfloat16; inputs and outputs keep float32.

    A Paddle without GPUs writes files, converts nothing and says so in its log alone, so the sizes are compared.

    Raises:
        EngineError: Paddle refuses the model.
        EnvironmentMissing: nothing was converted.
    """
    try:
        module.convert_to_mixed_precision(
            str(model),
            str(params),
            str(out_model),
            str(out_params),
            getattr(module.PrecisionType, precision),
            module.PlaceType.GPU,
            keep_io_types=True,
        )
    except Exception as error:
        raise EngineError(
            f"Paddle cannot convert the model to {precision}: {gist(error)}",
            where=str(model),
            hint="leave convert_to_mixed_precision out of [engine.paddle]: the predictor converts when it loads",
        ) from error
    if out_params.stat().st_size >= params.stat().st_size:
        raise EnvironmentMissing(
            f"Paddle converted nothing to {precision}: its file is no smaller",
            where=str(model),
            hint="this Paddle was built without GPUs: install paddlepaddle-gpu in the place of paddlepaddle",
        )
