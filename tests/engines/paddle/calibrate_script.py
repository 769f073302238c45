"""Run by test_calibrate.py in a process with the stand-in for Paddle's GPU: each case, and what came of it, as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from paddle import inference

from trtd.calibrate.items import Batch, ItemRef
from trtd.engines.paddle.building import build_engines, built_here
from trtd.engines.paddle.calibrate import calibrate
from trtd.engines.paddle.settings import PaddleSettings, TensorRTSettings
from trtd.engines.paddle.shapes import collect_shape_ranges
from trtd.errors import TrtdError
from trtd.model.inspect import read_facts
from trtd.model.locate import locate

MODEL, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
INPUTS = read_facts(locate(MODEL)).inputs


def settings(**options: Any) -> PaddleSettings:
    facts = {"workspace_size": 1 << 30, "max_batch_size": 4, "min_subgraph_size": 5, "use_static": False}
    tensorrt = TensorRTSettings(**{**facts, "use_calib_mode": True, "use_cuda_graph": False, **options})
    return PaddleSettings(
        model_file="inference.pdmodel",
        params_file="inference.pdiparams",
        precision="Int8",
        gpu=True,
        inputs=INPUTS,
        tensorrt=tensorrt,
    )


def arrays(size: int, side: int = 16) -> dict[str, Any]:
    return {"image": np.zeros((size, 3, side, side), np.float32), "tokens": np.zeros((size, 6, 8), np.float32)}


def batches(*sizes: int, odd: bool = False) -> Iterator[Batch]:
    for number, size in enumerate(sizes):
        feeds = arrays(size, 8 if odd and number else 16)
        yield Batch(items=tuple(ItemRef(f"{number}.npz", None) for _ in range(size)), feeds=feeds)


def case(name: str, given: Iterator[Batch], *, fault: str = "", mode: int = 0o755, **options: Any) -> dict[str, Any]:
    folder = FOLDER / name
    shutil.copytree(MODEL, folder)
    folder.chmod(mode)
    os.environ["STAND_IN_PADDLE_FAULT"] = fault
    done: list[int] = []
    try:
        tables, fed = calibrate(inference, settings(**options), folder, given, done.append)
    except TrtdError as error:
        return told(error)
    return {"tables": [table.model_dump() for table in tables], "done": done, "fed": fed}


def told(error: TrtdError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def stand_in_access(path: Any, mode: int, **options: Any) -> bool:
    """Goes by the mode alone; the kernel refuses nothing to root."""
    return bool(os.stat(path).st_mode & 0o222)


def read_only() -> dict[str, Any]:
    """The same calibration where the model's folder may not be written to."""
    real = os.access
    os.access = stand_in_access
    try:
        return case("read-only", batches(2), mode=0o555)
    finally:
        os.access = real


def loaded(name: str, *, fault: str = "", tensorrt: str = "8.5.3") -> dict[str, Any]:
    """The engine of a calibrated case, built from the tables that it left."""
    os.environ["STAND_IN_PADDLE_FAULT"], os.environ["STAND_IN_PADDLE_TENSORRT"] = fault, tensorrt
    try:
        build_engines(inference, built_here(inference, settings()), FOLDER / name, arrays(2))
    except TrtdError as error:
        return told(error)
    finally:
        del os.environ["STAND_IN_PADDLE_TENSORRT"]
    return {"tables": sorted(file.name for file in (FOLDER / name / "_opt_cache").iterdir())}


found = {
    "good": case("good", batches(2, 2, 2)),
    "smaller": case("smaller", batches(2, 2, 1)),
    "odd": case("odd", batches(2, 2, odd=True)),
    "none": case("none", batches()),
    "no-subgraph": case("no-subgraph", batches(2), fault="no-subgraph"),
    "large": case("large", batches(2), min_subgraph_size=200),
    "unreached": case("unreached", batches(2), fault="unreached"),
    "no-libnvinfer": case("no-libnvinfer", batches(2), fault="no-libnvinfer"),
    "no-tensorrt": case("no-tensorrt", batches(2), fault="no-tensorrt"),
    "read-only": read_only(),
    "loaded": loaded("good"),
    "foreign": loaded("good", tensorrt="8.6.1"),
    "not-taken": loaded("good", fault="other-subgraphs"),
}
os.environ["STAND_IN_PADDLE_TENSORRT"] = "11.0.0"
found["tensorrt-11"] = case("tensorrt-11", batches(2))
os.environ["STAND_IN_PADDLE_FAULT"] = ""
ranges = FOLDER / "shape_range_info.pbtxt"
collect_shape_ranges(inference, settings(), FOLDER / "good", (arrays(size) for size in (1, 3, 3)), ranges)
found["ranges"] = {"text": ranges.read_text()}
Path(sys.argv[3]).write_text(json.dumps(found))
