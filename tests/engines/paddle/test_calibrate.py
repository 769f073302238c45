"""Calibration by TensorRT inside Paddle, on a stand-in that keeps Paddle's files; shapes come from the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("paddle.inference")

TESTS = Path(__file__).parents[2]
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(quantized_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What came of each case; Paddle stays out of the test process."""
    folder = tmp_path_factory.mktemp("calibrate")
    script, out = Path(__file__).with_name("calibrate_script.py"), folder / "found.json"
    paths = [TESTS / "stand_in_paddle", TESTS / "stand_in_gpu", TESTS.parent]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "STAND_IN_GPUS": "8.6"}
    command = [sys.executable, str(script), str(quantized_programs / "float"), str(folder / "cases"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: Found = json.loads(out.read_text())
    return found


def test_each_subgraph_has_a_table_and_every_item_is_told(found: Found) -> None:
    tables = found["good"]["tables"]
    assert [(table["header"], table["tensors"]) for table in tables] == [("TRT-8503-EntropyCalibration2", 4)] * 2
    assert all(table["file"].startswith("trt_calib_") for table in tables)
    assert found["good"]["done"] == [2, 4, 6]
    assert found["loaded"]["tables"] == [table["file"] for table in tables]


def test_a_last_smaller_batch_is_left_out(found: Found) -> None:
    """TensorRT's calibrator copies the first batch's number of bytes: it would read past the end of a smaller one."""
    assert (found["smaller"]["done"], found["smaller"]["fed"]) == ([2, 4], 4)


@pytest.mark.parametrize(
    ("case", "code", "message", "hint"),
    [
        ("odd", "data", "calibration batches have different shapes", "add resize"),
        ("none", "data", "there are no calibration batches", "real inputs"),
        ("no-subgraph", "engine", "Paddle gives nothing of this model to TensorRT", "lower min_subgraph_size"),
        ("large", "engine", "no subgraph has more than 200 operators", "lower min_subgraph_size"),
        ("unreached", "engine", "1 of 2 subgraphs have a calibration table", "no calibration item reaches them"),
        ("no-libnvinfer", "environment", "Paddle finds no TensorRT", "LD_LIBRARY_PATH"),
        ("no-tensorrt", "environment", "this Paddle was built without TensorRT", "paddlepaddle-gpu"),
        ("read-only", "environment", "may not write there", "make the folder writable"),
        ("tensorrt-11", "environment", "TensorRT 11.0.0 has no calibrators", "that Paddle or PaddleSlim has quantized"),
        ("foreign", "engine", "are of another TensorRT (8503) than the 8.6.1 that Paddle finds", "build the engine"),
        ("not-taken", "engine", "Paddle did not take the calibration tables", "other subgraphs than in calibration"),
    ],
)
def test_what_would_be_fp32_in_silence_is_an_error(case: str, code: str, message: str, hint: str, found: Found) -> None:
    """PaddlePaddle/Paddle 33624: "INT8" that quantizes nothing, and no line about it."""
    assert code in found[case]["code"]
    assert message in found[case]["message"]
    assert hint in found[case]["hint"]


def test_shapes_are_collected_on_real_data(found: Found) -> None:
    """By the real Paddle: smallest, largest and most frequent shape of every tensor, inner ones included."""
    text = found["ranges"]["text"]
    assert text.count("shape_range_info") > 5
    assert 'name: "image"' in text
