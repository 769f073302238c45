"""From settings to a ``Config`` of Paddle's that really says what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trtd.engines.paddle.predictor import PaddleRunner, gist
from trtd.engines.paddle.settings import Call, InFolder, PaddleSettings, Precision, calls
from trtd.errors import EngineError, EnvironmentMissing, TrtdError


def make_runner(
    module: Any,
    settings: PaddleSettings,
    folder: Path,
    *,
    cache: Path | None = None,
    log: bool = False,
    threads: int | None = None,
) -> PaddleRunner:
    """A predictor with these settings; arguments and errors as of :func:`make_config`, and those of the runner.

    Args:
        threads: on a CPU; ``None`` for as many as may be used. Paddle itself would take one.
    """
    config = make_config(module, settings, folder, cache=cache, log=log)
    if not settings.gpu:
        config.set_cpu_math_library_num_threads(threads or len(os.sched_getaffinity(0)))
    model = folder / settings.model_file
    engines = model.with_suffix("") if settings.converted else None
    return PaddleRunner(module, config, settings.inputs, str(model), engines=engines)


def make_config(
    module: Any, settings: PaddleSettings, folder: Path, *, cache: Path | None = None, log: bool = False
) -> Any:
    """A new ``Config``, for one predictor.

    Args:
        module: ``paddle.inference``.
        folder: that holds the model.
        cache: folder that calibration tables and engines are read from, and engines written to; ``None`` for
            ``_opt_cache`` beside the model, the only one that Paddle writes tables to.
        log: let Paddle tell what it does, on stderr; else only errors. Without it, a predictor silences all that are
            made after it in its process.

    Raises:
        EnvironmentMissing: this Paddle was built without GPU or TensorRT, or cannot use them here.
        EngineError: this Paddle has no such setting, or refuses its value.
    """
    where = str(folder / settings.model_file)
    config = module.Config(where, str(folder / settings.params_file) if settings.params_file else "")
    if not log:
        config.disable_glog_info()
    for call in calls(settings):
        _obey(module, config, call, folder, where)
        if call.method == "enable_use_gpu" and not config.use_gpu():
            raise EnvironmentMissing(
                "this Paddle was built without GPUs",
                hint="install paddlepaddle-gpu in the place of paddlepaddle",
                where=where,
            )
    subgraphs = settings.tensorrt is not None and not settings.converted
    if subgraphs and not config.tensorrt_engine_enabled():
        raise EnvironmentMissing("Paddle did not turn TensorRT on", hint="its log tells why", where=where)
    if cache is not None:
        config.set_optim_cache_dir(str(cache))
    return config


def _obey(module: Any, config: Any, call: Call, folder: Path, where: str) -> None:
    method = getattr(config, call.method, None)
    if method is None:
        raise EngineError(
            f"this Paddle has no {call.method}, which came with {call.newer or 'a newer one'}",
            where=where,
            hint="leave that option out of [engine.paddle], or install a newer Paddle",
        )
    positional = [_value(module, value, folder) for value in call.positional]
    arguments = {name: _value(module, value, folder) for name, value in call.arguments.items()}
    try:
        method(*positional, **arguments)
    except Exception as error:
        raise _refused(call, error, where) from error


def _value(module: Any, value: Any, folder: Path) -> Any:
    if isinstance(value, Precision):
        return getattr(module.PrecisionType, value.name)
    return str(folder / value.name) if isinstance(value, InFolder) else value


def _refused(call: Call, error: Exception, where: str) -> TrtdError:
    if "compile with TENSORRT" in str(error):
        return EnvironmentMissing(
            "this Paddle was built without TensorRT",
            hint="install paddlepaddle-gpu in the place of paddlepaddle: its wheels have it",
            where=where,
        )
    return EngineError(
        f"Paddle refuses {call.method}: {gist(error)}",
        where=where,
        hint="see [engine.paddle] in the spec: names and bounds there are Paddle's own",
    )
