"""Run by test_cpu_wheel.py in a process with the real Paddle: each case, and what came of it, as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference

from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import PaddleRunner
from trtd.engines.paddle.reference import open_paddle_on_cpu
from trtd.engines.paddle.script import render_script
from trtd.engines.paddle.settings import PaddlePrecision, PaddleSettings, TensorRTSettings
from trtd.errors import TrtdError
from trtd.model.facts import TensorFacts
from trtd.model.inspect import read_facts
from trtd.model.locate import locate

DIGITS, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
SOURCE = locate(DIGITS)
INPUTS = read_facts(SOURCE).inputs
FEEDS = {INPUTS[0].name: np.random.default_rng(0).random((5, 1, 8, 8), np.float32)}


def settings(precision: PaddlePrecision = "Float32", **changes: Any) -> PaddleSettings:
    assert SOURCE.params_file is not None
    given = {"model_file": SOURCE.model_file.name, "params_file": SOURCE.params_file.name, "inputs": INPUTS}
    return PaddleSettings(**{"precision": precision, "gpu": False, **given, **changes})


TENSORRT = TensorRTSettings(
    workspace_size=1 << 30,
    max_batch_size=4,
    min_subgraph_size=5,
    use_static=False,
    use_calib_mode=False,
    use_cuda_graph=False,
)


class ConfigThatClaimsAGpu(inference.Config):  # type: ignore[misc]  # nor here
    def use_gpu(self) -> bool:
        return True


class ModuleThatClaimsAGpu:
    Config, PrecisionType = ConfigThatClaimsAGpu, inference.PrecisionType


def refused(module: Any, asked: PaddleSettings) -> dict[str, str]:
    try:
        make_config(module, asked, DIGITS)
    except TrtdError as error:
        return {"code": error.code, "message": error.message, "hint": error.hint}
    return {}


def run_script(folder: Path, asked: PaddleSettings, feeds: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The script that stands beside the model; outputs come to ``out.npz``."""
    (folder / "run.py").write_text(render_script(asked, "run.py"))
    np.savez(folder / "in.npz", **feeds)
    command = [sys.executable, "-W", "ignore", *(str(folder / name) for name in ("run.py", "in.npz", "out.npz"))]
    return subprocess.run(command, capture_output=True, text=True)


class WithoutParameters(paddle.nn.Layer):  # type: ignore[misc]  # paddle has no types here
    def forward(self, x: Any) -> Any:
        return paddle.nn.functional.relu(x) + 1


def without_parameters() -> dict[str, Any]:
    """A model that has none, through the runner and through the script."""
    spec = paddle.static.InputSpec([2, 3], "float32", name="x")
    paddle.jit.save(WithoutParameters(), str(FOLDER / "bare" / "model"), input_spec=[spec])
    x = np.array([[-1, 0, 1], [2, -3, 4]], np.float32)
    inputs = (TensorFacts(name="x", dtype="float32", shape=(2, 3)),)
    asked = settings(model_file="model.json", params_file="", inputs=inputs)
    runner = PaddleRunner(inference, make_config(inference, asked, FOLDER / "bare"), inputs, "bare")
    (ours,) = runner.run({"x": x}).values()
    done = run_script(FOLDER / "bare", asked, {"x": x})
    assert done.returncode == 0, done.stderr
    (theirs,) = np.load(FOLDER / "bare" / "out.npz").values()
    wanted = np.maximum(x, 0) + 1
    return {"runner": np.array_equal(ours, wanted), "script": np.array_equal(theirs, wanted)}


loud = make_config(inference, settings(), DIGITS, log=True)  # before any that is silent
PaddleRunner(inference, loud, INPUTS, "digits")
print("-- silent from here --", file=sys.stderr, flush=True)
on_cpu = PaddleRunner(inference, make_config(inference, settings(), DIGITS), INPUTS, "digits").run(FEEDS)
reference = open_paddle_on_cpu(SOURCE, INPUTS).run(FEEDS)
native = settings("Half", gpu=True)
shutil.copytree(DIGITS, FOLDER / "native")
scripted = run_script(FOLDER / "native", native, FEEDS)
found = {
    "native": refused(inference, native),
    "tensorrt": refused(inference, settings("Half", gpu=True, tensorrt=TENSORRT)),
    "claims": refused(ModuleThatClaimsAGpu, settings("Half", gpu=True, tensorrt=TENSORRT)),
    "outputs": [list(array.shape) for array in on_cpu.values()],
    "equal": [bool(np.array_equal(on_cpu[name], reference[name])) for name in reference],
    "script": {"status": scripted.returncode, "said": scripted.stderr.strip().splitlines()[-1]},
    "bare": without_parameters(),
}
Path(sys.argv[3]).write_text(json.dumps(found))
