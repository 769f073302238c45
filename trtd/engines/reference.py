"""Opening the reference: the original model, in FP32, in the framework it came from."""

from __future__ import annotations

from importlib.metadata import version

from trtd.engines.protocol import Runner
from trtd.model.facts import ModelFacts
from trtd.model.source import ModelSource


def open_reference(source: ModelSource, facts: ModelFacts, *, threads: int | None = None) -> Runner:
    """Paddle Inference for Paddle models, so that a wrong conversion is caught too; ONNX Runtime for ONNX models."""
    if source.format == "onnx":
        from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner

        return OnnxRuntimeRunner(source.model_file, threads=threads)
    from trtd.engines.paddle.reference import open_paddle_on_cpu

    return open_paddle_on_cpu(source, facts.inputs, threads=threads)


def reference_name(source_format: str) -> str:
    """``Paddle Inference 3.3.1 FP32``: what a report calls the reference."""
    if source_format == "onnx":
        return f"ONNX Runtime {version('onnxruntime')} FP32"
    return f"Paddle Inference {paddle_version()} FP32"


def paddle_version() -> str:
    """Version of whichever Paddle distribution is installed; ``absent`` if none is."""
    from importlib.metadata import PackageNotFoundError

    for distribution in ("paddlepaddle", "paddlepaddle-gpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "absent"
