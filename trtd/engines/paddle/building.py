"""Building what a Paddle engine is made of besides the model: TensorRT's engines, of either kind of program."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import PaddleRunner, gist
from trtd.engines.paddle.settings import OPT_CACHE, PaddleSettings
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError, EnvironmentMissing
from trtd.plan.shapes import Profile

ENGINE_PREFIX = "trt_serialized_"

_PIR_PRECISIONS = {"Float32": "FP32", "Half": "FP16", "Int8": "INT8"}


def build_engines(module: Any, settings: PaddleSettings, folder: Path, feeds: Arrays) -> None:
    """Load the engine once and run it. With ``use_static`` Paddle leaves TensorRT's engines in ``_opt_cache``.

    Raises:
        EngineError: it does not run, or ``use_static`` left no engine.
    """
    where = str(folder / settings.model_file)
    runner = PaddleRunner(module, make_config(module, settings, folder, log=True), settings.inputs, where)
    runner.run(feeds)
    runner.close()
    keeps = settings.tensorrt is not None and settings.tensorrt.use_static and not settings.converted
    if keeps and not list((folder / OPT_CACHE).glob(f"{ENGINE_PREFIX}*")):
        raise EngineError(
            "Paddle built no TensorRT engine to keep",
            where=where,
            hint="no subgraph went to TensorRT, see the build log: lower min_subgraph_size in [engine.paddle]",
        )


def convert_pir(module: Any, settings: PaddleSettings, folder: Path, profiles: Mapping[str, Profile]) -> None:
    """Put TensorRT's engines into a PIR program, with ``paddle.tensorrt.convert``; the program is replaced.

    The engine that subgraphs of older programs use does nothing with PIR, and does not say so.

    Raises:
        EnvironmentMissing: this Paddle has no such module.
        EngineError: it fails.
    """
    trt = settings.tensorrt
    assert trt is not None
    where = str(folder / settings.model_file)
    try:
        converter = importlib.import_module("paddle.tensorrt")
    except ImportError as error:
        raise EnvironmentMissing(
            f"this Paddle cannot convert PIR programs (.json) for TensorRT: {error}",
            where=where,
            hint="export the model as .pdmodel (FLAGS_enable_pir_api=0), or install a paddlepaddle-gpu 3 with TensorRT",
        ) from error
    inputs = [
        converter.Input(
            min_input_shape=profile.min,
            max_input_shape=profile.max,
            optim_input_shape=profile.opt,
            input_data_type=next(i.dtype for i in settings.inputs if i.name == name),
            name=name,
        )
        for name, profile in profiles.items()
    ]
    stem = Path(settings.model_file).stem
    options = converter.TensorRTConfig(
        inputs=inputs,
        min_subgraph_size=trt.min_subgraph_size,
        save_model_dir=str(folder / "converted" / stem),
        disable_ops=list(trt.disable_ops) or None,
        precision_mode=getattr(converter.PrecisionMode, _PIR_PRECISIONS[settings.precision]),
        workspace_size=trt.workspace_size,
        use_cuda_graph=trt.use_cuda_graph,
    )
    try:
        converter.convert(str(folder / stem), options)
    except Exception as error:
        hint = "the build log has all that Paddle said; FLAGS_enable_pir_api=0 at export gives a .pdmodel instead"
        raise EngineError(f"paddle.tensorrt.convert failed: {gist(error)}", where=where, hint=hint) from error
    for made in (folder / "converted").iterdir():
        made.replace(folder / made.name)
    (folder / "converted").rmdir()


def versions(module: Any, settings: PaddleSettings) -> dict[str, str]:
    """Of Paddle and of the TensorRT that it was built with, as ``paddle`` and ``tensorrt_version``."""
    paddle = importlib.import_module("paddle")
    compiled = module.get_trt_compile_version() if settings.tensorrt is not None else (0, 0, 0)
    return {
        "paddle": str(paddle.__version__),
        "tensorrt_version": ".".join(map(str, compiled)) if any(compiled) else "",
    }
