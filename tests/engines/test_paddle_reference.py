"""Paddle Inference on a real model judges, and agrees with, its own conversion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("paddle.inference")
pytest.importorskip("paddle2onnx")

MODEL = Path(__file__).parents[2] / "specs" / "digits" / "model"

# Paddle stays out of the test process: its libraries live for as long as a process does.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from trtd.engines.reference import open_reference, reference_name
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.errors import EngineError
from trtd.model.convert import to_onnx
from trtd.model.inspect import read_facts
from trtd.model.locate import locate

folder, model = Path(sys.argv[1]), Path(sys.argv[2])
source = locate(model)
facts = read_facts(source)
paddle = open_reference(source, facts, threads=1)
to_onnx(source, folder / "digits.onnx", lambda line: None)
onnx = OnnxRuntimeRunner(folder / "digits.onnx", threads=1)
name = facts.inputs[0].name
shape = [d or 5 for d in facts.inputs[0].shape]
feeds = {name: np.random.default_rng(0).random(shape, np.float32)}
first, second = paddle.run(feeds), onnx.run(feeds)
refused = []
for bad in ({}, {name: feeds[name].astype(np.float64)}, {name: feeds[name][:, :, :-1]}):
    try:
        paddle.run(bad)
    except EngineError as error:
        refused.append(error.message)
again = paddle.run(feeds)
torn = folder / "torn"
torn.mkdir()
for file in model.iterdir():
    (torn / file.name).write_bytes(file.read_bytes())
(torn / source.params_file.name).write_bytes(source.params_file.read_bytes()[:100])
try:
    open_reference(source.model_copy(update={"params_file": torn / source.params_file.name}), facts)
    torn_says = ""
except EngineError as error:
    torn_says = error.message
json.dump({
    "name": reference_name(source.format),
    "outputs": [o.name for o in paddle.outputs],
    "found": [[list(a.shape), str(a.dtype)] for a in first.values()],
    "error": [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(*map(dict.values, (first, second)))],
    "refused": refused,
    "repeats": all(np.array_equal(first[k], again[k]) for k in first),
    "torn": torn_says,
}, open(folder / "result.json", "w"))
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("paddle")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_paddle_and_its_conversion_agree(result: dict[str, Any]) -> None:
    """The reference is what Paddle itself gives; if the runner fed it wrongly, every engine would be judged wrongly."""
    assert len(result["outputs"]) == len(result["found"]) > 0
    assert all(dtype == "float32" and shape[0] == 5 for shape, dtype in result["found"])
    assert max(result["error"]) < 1e-5


def test_a_predictor_can_be_run_again(result: dict[str, Any]) -> None:
    """After a refused feed too."""
    assert result["repeats"]


def test_wrong_feeds_are_refused_by_name(result: dict[str, Any]) -> None:
    """Paddle itself would read past the end of an array of the wrong dtype."""
    assert len(result["refused"]) == 3
    assert "is missing" in result["refused"][0]
    assert "float64" in result["refused"][1]


def test_torn_parameters_are_refused(result: dict[str, Any]) -> None:
    """Paddle raises errors of many kinds; they must arrive as one of ours."""
    assert result["torn"].startswith("Paddle cannot load it: ")


def test_the_report_names_the_judge(result: dict[str, Any]) -> None:
    """With its version, since results differ between releases."""
    assert result["name"].startswith("Paddle Inference 3.")
    assert result["name"].endswith(" FP32")
    assert np.isfinite(result["error"]).all()
