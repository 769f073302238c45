"""Paddle Inference on the CPU in FP32: the reference that judges engines made from Paddle models."""

from __future__ import annotations

import os

from trtd.engines.paddle.predictor import PaddleRunner, paddle_inference
from trtd.model.facts import TensorFacts
from trtd.model.source import ModelSource


def open_paddle_on_cpu(
    source: ModelSource, inputs: tuple[TensorFacts, ...], *, threads: int | None = None
) -> PaddleRunner:
    """Load a model on the CPU.

    Raises:
        EnvironmentMissing: paddlepaddle is not installed.
        EngineError: Paddle cannot load the model.
    """
    where = str(source.model_file)
    module = paddle_inference(where)
    config = module.Config(where, str(source.params_file or ""))
    config.disable_gpu()
    # Paddle 3.3's oneDNN path refuses attributes that older exports carry, and rounds in its own ways.
    config.disable_mkldnn()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads or len(os.sched_getaffinity(0)))
    return PaddleRunner(module, config, inputs, where)
