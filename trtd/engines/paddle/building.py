"""Building what a Paddle engine is made of besides the model: TensorRT's engines, of either kind of program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.paddle.config import make_runner
from trtd.engines.paddle.installed import installed_paddle
from trtd.engines.paddle.settings import OPT_CACHE, PaddleSettings
from trtd.engines.paddle.tables import refuse_foreign, tables_in
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError

ENGINE_PREFIX = "trt_serialized_"


def build_engines(module: Any, settings: PaddleSettings, folder: Path, feeds: Arrays) -> None:
    """Load the engine once and run it. With ``use_static`` Paddle leaves TensorRT's engines in ``_opt_cache``.

    Raises:
        EngineError: it does not run, ``use_static`` left no engine, or the calibration tables in ``_opt_cache`` were
            not taken: Paddle looks for others, or TensorRT is another.
    """
    where = str(folder / settings.model_file)
    tables = tables_in(folder / OPT_CACHE)
    refuse_foreign(folder / OPT_CACHE, settings.tensorrt_version)
    try:
        runner = make_runner(module, settings, folder, log=True)
        runner.run(feeds)
    except EngineError as error:
        if settings.tensorrt is None or not settings.tensorrt.shapes:
            raise
        hint = "if it is about shapes inside of the model: collect_shape_range_info = true in [engine.paddle]"
        raise EngineError(error.message, where=where, hint=hint) from error
    runner.close()
    if made := sorted(tables_in(folder / OPT_CACHE) - tables):
        raise EngineError(
            f"Paddle did not take the calibration tables, and began to make others: {made[0]}",
            where=where,
            hint="it found other subgraphs than in calibration; is another Paddle or TensorRT at work? "
            "trtd build SPEC --force",
        )
    keeps = settings.tensorrt is not None and settings.tensorrt.use_static and not settings.converted
    if keeps and not list((folder / OPT_CACHE).glob(f"{ENGINE_PREFIX}*")):
        raise EngineError(
            "Paddle built no TensorRT engine to keep",
            where=where,
            hint="no subgraph went to TensorRT, see the build log: lower min_subgraph_size in [engine.paddle]",
        )


def built_here(module: Any, settings: PaddleSettings) -> PaddleSettings:
    """The settings with the Paddle and the TensorRT that are here in them."""
    here = installed_paddle(module)
    tensorrt = (here.tensorrt_found or here.tensorrt) if settings.tensorrt is not None else ""
    return settings.model_copy(update={"paddle": here.version, "tensorrt_version": tensorrt})
