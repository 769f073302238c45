"""Paddle Inference on the CPU in FP32: the reference that judges engines made from Paddle models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from trtd.engines.feeds import check_feeds
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError, EnvironmentMissing
from trtd.model.facts import TensorFacts
from trtd.model.source import ModelSource


class PaddleRunner:
    """A Paddle predictor with named inputs and outputs.

    Outputs have the names that Paddle gives to fetched variables. The converted model may call them otherwise: what
    the two have in common is the order. Dtypes and shapes of outputs are known only after a run.

    Raises:
        EnvironmentMissing: paddlepaddle is not installed.
        EngineError: Paddle cannot load the model.
    """

    def __init__(self, source: ModelSource, inputs: tuple[TensorFacts, ...], *, threads: int | None = None) -> None:
        os.environ.setdefault("GLOG_minloglevel", "3")
        try:
            import paddle.inference as paddle_inference
        except ImportError as error:
            raise EnvironmentMissing(
                "paddlepaddle is not installed, and the source is a Paddle model",
                hint="pip install 'trtd[cpu]'",
                where=str(source.model_file),
            ) from error
        config = paddle_inference.Config(str(source.model_file), str(source.params_file or ""))
        config.disable_gpu()
        # Paddle 3.3's oneDNN path refuses attributes that older exports carry, and rounds in its own ways.
        config.disable_mkldnn()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(threads or len(os.sched_getaffinity(0)))
        try:
            self._predictor = paddle_inference.create_predictor(config)
        except Exception as error:
            raise EngineError(
                f"Paddle cannot load it: {_last_line(error)}",
                where=str(source.model_file),
                hint="was it exported by a newer Paddle, or do model and params belong to different exports?",
            ) from error
        self._inputs = inputs
        self._output_names = list(self._predictor.get_output_names())

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return tuple(TensorFacts(name=n, dtype="float32", shape=()) for n in self._output_names)

    def run(self, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        check_feeds(self._inputs, feeds)
        try:
            for name, array in feeds.items():
                handle = self._predictor.get_input_handle(name)
                handle.reshape(list(array.shape))
                handle.copy_from_cpu(np.ascontiguousarray(array))
            self._predictor.run()
            return {name: self._predictor.get_output_handle(name).copy_to_cpu() for name in self._output_names}
        except Exception as error:
            raise EngineError(f"Paddle failed: {_last_line(error)}") from error

    def close(self) -> None:
        del self._predictor


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
