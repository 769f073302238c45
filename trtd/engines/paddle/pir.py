"""TensorRT in a PIR program (.json): engines that ``paddle.tensorrt.convert`` puts into it ahead of time.

The engine that subgraphs of older programs use does nothing with PIR, and does not say so.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtd.engines.paddle.predictor import gist
from trtd.engines.paddle.settings import PaddleSettings, TensorRTSettings
from trtd.errors import EngineError, EnvironmentMissing
from trtd.plan.shapes import Profile

_PRECISIONS = {"Float32": "FP32", "Half": "FP16", "Int8": "INT8"}
_WORK = "converted"


def convert_pir(settings: PaddleSettings, folder: Path, profiles: Mapping[str, Profile]) -> None:
    """Put TensorRT's engines into the program in ``folder``, which is replaced; they lie beside it.

    Raises:
        EnvironmentMissing: this Paddle has no such module.
        EngineError: it fails, or lacks an option that the settings name.
    """
    where = str(folder / settings.model_file)
    try:
        converter = importlib.import_module("paddle.tensorrt")
    except ImportError as error:
        raise EnvironmentMissing(
            f"this Paddle cannot convert PIR programs (.json) for TensorRT: {error}",
            where=where,
            hint="export the model as .pdmodel (FLAGS_enable_pir_api=0), or install a paddlepaddle-gpu 3 with TensorRT",
        ) from error
    stem = Path(settings.model_file).stem
    try:
        convert = converter.convert
        config = _config(converter, settings, profiles, folder / _WORK / stem, where)
        convert(str(folder / stem), config)
    except EngineError:
        raise
    except Exception as error:
        hint = "the build log has all that Paddle said; FLAGS_enable_pir_api=0 at export gives a .pdmodel instead"
        raise EngineError(f"paddle.tensorrt.convert failed: {gist(error)}", where=where, hint=hint) from error
    for made in (folder / _WORK).iterdir():
        made.replace(folder / made.name)
    (folder / _WORK).rmdir()


def _config(converter: Any, settings: PaddleSettings, profiles: Mapping[str, Profile], out: Path, where: str) -> Any:
    trt = settings.tensorrt
    assert trt is not None
    dtypes = {facts.name: facts.dtype for facts in settings.inputs}
    inputs = [
        converter.Input(
            min_input_shape=profile.min,
            max_input_shape=profile.max,
            optim_input_shape=profile.opt,
            input_data_type=dtypes[name],
            name=name,
        )
        for name, profile in profiles.items()
    ]
    return converter.TensorRTConfig(
        inputs=inputs,
        save_model_dir=str(out),
        precision_mode=getattr(converter.PrecisionMode, _PRECISIONS[settings.precision]),
        **_options(converter.TensorRTConfig, trt, where),
    )


def _options(config: Any, trt: TensorRTSettings, where: str) -> dict[str, Any]:
    """What differs from release to release: ``use_cuda_graph``, for one, is not in 3.0."""
    wanted = {
        "min_subgraph_size": trt.min_subgraph_size,
        "workspace_size": trt.workspace_size,
        "disable_ops": list(trt.disable_ops) or None,
        "use_cuda_graph": trt.use_cuda_graph or None,
    }
    known = inspect.signature(config).parameters
    options = {name: value for name, value in wanted.items() if value is not None}
    if absent := [name for name in options if name not in known]:
        raise EngineError(
            f"paddle.tensorrt.convert of this Paddle has no {absent[0]}",
            where=where,
            hint="leave it out of [engine.paddle], or install a newer Paddle",
        )
    return options
