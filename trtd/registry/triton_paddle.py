"""What ``config.pbtxt`` says to Triton's Paddle backend. Source: triton-inference-server/paddlepaddle_backend."""

from __future__ import annotations

from trtd.engines.paddle.settings import PaddleSettings

_PRECISIONS = {"Float32": "trt_fp32", "Half": "trt_fp16", "Int8": "trt_int8"}

Accelerators = dict[str, dict[str, str]]
"""Accelerators by name, each with its parameters."""


def accelerators(settings: PaddleSettings) -> Accelerators:
    """TensorRT as the backend is to use it; empty for Paddle's own kernels.

    The backend turns TensorRT on with ``use_calib_mode = false`` and ``use_static = false``, always: it reads no
    calibration tables, so an engine that needs them would run in FP32 there and not say so. FP16 is asked for instead.
    """
    trt = settings.tensorrt
    if trt is None or settings.converted:
        return {}
    options = {
        "precision": "trt_fp16" if trt.use_calib_mode else _PRECISIONS[settings.precision],
        "min_graph_size": str(trt.min_subgraph_size),
        "workspace_size": str(trt.workspace_size),
        "max_batch_size": str(trt.max_batch_size),
        "is_dynamic": "1" if trt.shapes or trt.shape_range_file else "0",
    }
    made = {"tensorrt": options}
    if trt.shape_range_file:
        options["disenable_trt_tune"] = "1"  # as the backend spells it: use the file that is there
    for kind, name in (("min", "min_shape"), ("max", "max_shape"), ("optim", "opt_shape")):
        if trt.shapes:
            made[name] = {key: " ".join(map(str, getattr(shape, kind))) for key, shape in trt.shapes.items()}
    return made


def limits(settings: PaddleSettings) -> tuple[str, ...]:
    """What Triton's Paddle backend cannot serve as it was built; a report says so."""
    if settings.model_file.endswith(".json"):
        return (
            "Triton's Paddle backend reads .pdmodel programs alone: serve this PIR program with trtd.load or run.py.",
        )
    if settings.tensorrt is not None and settings.tensorrt.use_calib_mode:
        return (
            "Triton's Paddle backend reads no calibration tables: config.pbtxt asks it for FP16. trtd.load and run.py "
            "give INT8.",
        )
    return ()
