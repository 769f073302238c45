"""The same settings on the real Paddle of this environment, which was built without GPUs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trtd.engines.paddle.predictor import gist, load_error, paddle_inference, refuse_unreadable
from trtd.errors import EngineError, EnvironmentMissing

pytest.importorskip("paddle.inference")

SCRIPT = Path(__file__).parent / "cpu_wheel_script.py"
DIGITS = Path(__file__).parents[3] / "specs" / "digits" / "model"


# Paddle stays out of the test process: its libraries live for as long as a process does.
@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the script found, and what Paddle said meanwhile."""
    folder = tmp_path_factory.mktemp("cpu-wheel")
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(DIGITS), str(folder), str(folder / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[3])
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def found(ran: tuple[dict[str, Any], str]) -> dict[str, Any]:
    return ran[0]


@pytest.mark.parametrize("case", ["native", "tensorrt"])
def test_a_gpu_that_this_paddle_cannot_use_is_an_error(case: str, found: dict[str, Any]) -> None:
    """Paddle logs it and goes on: what was built as FP16 on a GPU would be FP32 on the CPU."""
    assert found[case]["code"] == "environment"
    assert found[case]["message"] == "this Paddle was built without GPUs"
    assert "paddlepaddle-gpu" in found[case]["hint"]


def test_a_paddle_with_gpus_and_without_tensorrt_is_told_apart(found: dict[str, Any]) -> None:
    """Its own message, of the real ``enable_tensorrt_engine``, must be recognized."""
    assert found["claims"]["code"] == "environment"
    assert found["claims"]["message"] == "this Paddle was built without TensorRT"
    assert "paddlepaddle-gpu" in found["claims"]["hint"]


def test_settings_of_the_cpu_compute_what_the_reference_does(found: dict[str, Any]) -> None:
    """Bit by bit: target paddle in FP32 is the reference itself."""
    assert found["outputs"] == [[5, 10]]
    assert found["equal"] == [True]


def test_the_script_of_a_gpu_engine_does_not_run_on_the_cpu_in_silence(found: dict[str, Any]) -> None:
    """Its user would measure FP32 on the CPU and take it for FP16 on the GPU."""
    assert found["script"] == {"status": 1, "said": "AssertionError: this Paddle was built without GPUs"}


def test_a_model_without_parameters_runs_and_so_does_its_script(found: dict[str, Any]) -> None:
    """``Config`` takes one argument for a folder, and finds no model in it."""
    assert found["bare"] == {"runner": True, "script": True}


def test_paddle_speaks_where_it_is_to_be_read_and_only_there(ran: tuple[dict[str, Any], str]) -> None:
    """Calibration counts subgraphs in that log: with no word in it, every model would seem to have none."""
    loud, _, quiet = ran[1].partition("-- silent from here --")
    assert re.search(r"^I\d{4} .* optimization completed", loud, re.MULTILINE)
    assert [line for line in quiet.splitlines() if line and not line.startswith("E")] == []
    assert "Please use PaddlePaddle with GPU version" in quiet  # errors are told always


def test_a_pir_program_never_reaches_a_paddle_that_would_die_of_it() -> None:
    """2.6.2 ends with SIGSEGV, which would be taken for a crash that another try may cure."""
    with pytest.raises(EngineError, match=r"Paddle 2\.6\.2 cannot read a PIR program") as error:
        refuse_unreadable("folder/model.json", "2.6.2")
    assert "FLAGS_enable_pir_api=0" in error.value.hint
    for model, version in (("model.json", "3.3.1"), ("model.json", "0.0.0"), ("model.pdmodel", "2.6.2")):
        refuse_unreadable(model, version)


# As Paddle 2.6.2 raises it; the wheel itself is asked by make test-paddle-gpu.
NO_TENSORRT = """(NotFound) TensorRT is needed, but TensorRT dynamic library is not found.
  Suggestions:
  1. Check if the TensorRT is installed correctly and its version is matched with paddlepaddle you installed.
  [Hint: dso_handle should not be null.] (at /paddle/paddle/fluid/platform/dynload/tensorrt.cc:57)
"""
TRACE = """

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   paddle_infer::Predictor::Predictor(paddle::AnalysisConfig const&)

----------------------
Error Message Summary:
----------------------
InvalidArgumentError: Device id must be less than GPU count, but received id is: 0. GPU count is: 0.
  [Hint: Expected id < GetGPUDeviceCount(), but received id:0 >= GetGPUDeviceCount():0.] (at cuda_info.cc:255)
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NO_TENSORRT, "(NotFound) TensorRT is needed, but TensorRT dynamic library is not found."),
        (TRACE, "InvalidArgumentError: Device id must be less than GPU count, but received id is: 0. GPU count is: 0."),
        ("first\n\n  last \n", "last"),
        ("", "ValueError"),
    ],
)
def test_the_gist_of_an_exception_is_what_happened(text: str, says: str) -> None:
    """The last line of most is a hint in C++: "dso_handle should not be null" helps nobody."""
    assert gist(ValueError(text)) == says


def test_what_is_missing_is_named_with_what_helps() -> None:
    """cuDNN is in no wheel of 2.6.2: without the mark it would be taken for a model of another Paddle."""
    no_cudnn = "(PreconditionNotMet) Cannot load cudnn shared library. Cannot invoke method cudnnGetVersion.\n"
    for text, what, helps in (
        (NO_TENSORRT, "finds no TensorRT", "LD_LIBRARY_PATH"),
        (TRACE, "finds no GPU", "nvidia-smi"),
        (no_cudnn, "finds no cuDNN", "libcudnn.so"),
    ):
        error = load_error(RuntimeError(text), "model.pdmodel")
        assert isinstance(error, EnvironmentMissing)
        assert what in error.message
        assert helps in error.hint


@pytest.mark.parametrize(
    ("imports", "says", "helps"),
    [("paddle", "paddlepaddle is not installed", "trtd[cpu]"), ("setuptools_", "No module named 'setuptools_'", "pip")],
)
def test_a_paddle_that_is_not_there_is_told_from_one_that_lacks_a_package(
    imports: str, says: str, helps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Python 3.12 Paddle 2.6.2 does not start without setuptools: installing Paddle again would help nobody."""
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "__init__.py").write_text(f'raise ModuleNotFoundError("{says}", name={imports!r})')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    with pytest.raises(EnvironmentMissing, match=says) as error:
        paddle_inference("model.pdmodel")
    assert helps in error.value.hint
