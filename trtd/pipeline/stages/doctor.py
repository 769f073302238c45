"""What this machine has: imported for real, in a process of its own, since a broken library may crash on import."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.pipeline.progress import Progress


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


# distribution, module to import, what it is for
PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("onnxruntime", "onnxruntime", "target onnxruntime-cpu"),
    ("onnx", "onnx", "reading and writing graphs"),
    ("onnx-ir", "onnx_ir", "rewriting graphs"),
    ("fast-histogram", "fast_histogram", "calibration"),
    ("paddlepaddle", "paddle", "Paddle models: the FP32 reference, and conversion"),
    ("paddle2onnx", "paddle2onnx", "conversion of Paddle models"),
    *(
        (next(filter(_has, flavour.distributions), flavour.distributions[-1]), flavour.module, f"target {target}")
        for target, flavour in FLAVOURS.items()
    ),
    ("cuda-bindings", "cuda.bindings.runtime", "running TensorRT engines"),
    ("nvidia-ml-py", "pynvml", "finding GPUs"),
)


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Imports every package of :data:`PACKAGES`; returns name, version, purpose and error of each."""
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
    return {"packages": found}
