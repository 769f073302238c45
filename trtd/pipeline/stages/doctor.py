"""What this machine has: imported for real, in a process of its own, since a broken library may crash on import."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trtd.engines.paddle.installed import installed_paddle
from trtd.engines.paddle.predictor import paddle_inference
from trtd.engines.table import PADDLE_DISTRIBUTIONS
from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.pipeline.progress import Progress


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _first(distributions: Sequence[str]) -> str:
    """The one that is installed; else the last, which is the one to install."""
    return next(filter(_has, distributions), distributions[-1])


# distribution, module to import, what it is for
PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("onnxruntime", "onnxruntime", "target onnxruntime-cpu"),
    ("onnx", "onnx", "reading and writing graphs"),
    ("onnx-ir", "onnx_ir", "rewriting graphs"),
    ("fast-histogram", "fast_histogram", "calibration"),
    (_first(PADDLE_DISTRIBUTIONS), "paddle", "Paddle models: the FP32 reference, conversion, and Paddle's own targets"),
    ("paddle2onnx", "paddle2onnx", "conversion of Paddle models"),
    *((_first(flavour.distributions), flavour.module, f"target {target}") for target, flavour in FLAVOURS.items()),
    ("cuda-bindings", "cuda.bindings.runtime", "running TensorRT engines"),
    ("nvidia-ml-py", "pynvml", "finding GPUs"),
)


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Imports every package of :data:`PACKAGES`; returns name, version, purpose and error of each.

    And of Paddle how it was built and which TensorRT it loads, an :class:`InstalledPaddle`; ``None`` without it.
    """
    found = []
    for distribution, module, purpose in progress.track(PACKAGES, note="import"):
        row = {"name": distribution, "version": None, "purpose": purpose, "error": None}
        try:
            row["version"] = version(distribution)
            importlib.import_module(module)
        except PackageNotFoundError:
            row["error"] = "not installed"
        except Exception as error:  # noqa: BLE001 - whatever a broken library raises is the finding
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        found.append(row)
    return {"packages": found, "paddle": _paddle()}


def _paddle() -> dict[str, Any] | None:
    try:
        here = installed_paddle(paddle_inference())
    except Exception:  # noqa: BLE001 - why it cannot be imported stands in the list of packages
        return None
    return here.model_dump(mode="json") | {"words": here.words}
