"""Versions of the packages that take part in a build, read without importing any of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from trtd.engines.table import BACKENDS
from trtd.model.converter import converter_versions

PADDLE = ("paddlepaddle", "paddlepaddle-gpu", "paddle2onnx")


def tool_versions(target: str, source_format: str) -> dict[str, str]:
    """Versions of every distribution that takes part, from package metadata alone.

    Pillow and numpy are among them: they decode and scale what the engine is calibrated and judged on.

    Args:
        target: a key of :data:`trtd.engines.table.BACKENDS`.
        source_format: of the source model; only Paddle models need Paddle.
    """
    names = ["numpy", "pillow", "fast-histogram", "onnx", "onnx-ir", "onnxruntime", *BACKENDS[target].distributions]
    if source_format == "onnx":
        return _installed(names)
    return _installed([*names, *PADDLE]) | {f"converter.{k}": v for k, v in converter_versions(PADDLE).items()}


def _installed(names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            installed: str | None = version(name)
        except (PackageNotFoundError, OSError, ValueError, TypeError, KeyError):
            continue  # not there; or its metadata is half written, because it is being installed
        if installed:
            found["paddlepaddle" if name == "paddlepaddle-gpu" else name] = installed
    return found
