"""Settings of every kind that trtd makes, for the model of ``make_model.py``."""

from __future__ import annotations

from typing import Any

from trtd.engines.paddle.settings import PaddlePrecision, PaddleSettings, ShapeRange, TensorRTSettings
from trtd.model.facts import TensorFacts

RANGE = ShapeRange(min=(1, 1, 8, 8), max=(7, 1, 8, 8), optim=(4, 1, 8, 8))


def settings(precision: PaddlePrecision = "Float32", **changes: Any) -> PaddleSettings:
    """Of the GPU, with Paddle's own kernels."""
    facts: dict[str, Any] = {
        "model_file": "model.pdmodel",
        "params_file": "model.pdiparams",
        "gpu": True,
        "inputs": (TensorFacts(name="image", dtype="float32", shape=(None, 1, 8, 8)),),
        "memory_pool_init_size_mb": 321,
    }
    return PaddleSettings(**{"precision": precision, **facts, **changes})


def tensorrt(precision: PaddlePrecision, **changes: Any) -> PaddleSettings:
    """Of TensorRT, with values that are nobody's default."""
    facts: dict[str, Any] = {
        "workspace_size": (1 << 33) + 1,
        "max_batch_size": 7,
        "min_subgraph_size": 4,
        "use_static": False,
        "use_calib_mode": False,
        "use_cuda_graph": False,
    }
    return settings(precision, tensorrt=TensorRTSettings(**{**facts, **changes}))


NATIVE = {"fp32": settings(), "fp16": settings("Half"), "bf16": settings("Bfloat16")}
TENSORRT = {
    "fp32": tensorrt("Float32"),
    "fp16": tensorrt("Half"),
    "int8-calibrated": tensorrt("Int8", use_calib_mode=True),
    "int8-quantized": tensorrt("Int8"),
    "static": tensorrt("Half", use_static=True),
    "cuda-graph": tensorrt("Half", use_cuda_graph=True),
    "ranges": tensorrt("Half", shapes={"image": RANGE}),
    "tuned": tensorrt("Half", shape_range_file="shape_range_info.pbtxt"),
    "disabled": tensorrt("Half", disable_ops=("pool2d",)),
}
ON_CPU = settings(gpu=False)
