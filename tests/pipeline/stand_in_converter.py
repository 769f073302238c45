"""A stand-in for the converter: it crashes as a native library would, on models that are named for it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from trtd.pipeline.progress import Progress
from trtd.pipeline.stages import convert


def crash_on_cursed_models(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Read address 0 if the model's name says so; else convert it."""
    if "cursed" in inputs["source"]["model_file"]:
        ctypes.string_at(0)
    return convert.run(inputs, out, progress)
