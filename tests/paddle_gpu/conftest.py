"""What the tests on the real GPU wheel share: the wheel, a model, settings of every kind, and child processes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtd.engines.paddle.predictor import paddle_inference

HERE = Path(__file__).parent
SOURCE = HERE.parents[1]

Child = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def inference() -> Any:
    """The real ``paddle.inference``. It stays in this process: its Config is asked, and no model is run on a GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return paddle_inference()


@pytest.fixture(scope="session")
def without_gpu(inference: Any) -> None:
    """These tests are about a machine that has none."""
    from paddle.device.cuda import device_count

    if device_count():
        pytest.skip("there is a GPU here")


@pytest.fixture(scope="session")
def child() -> Child:
    """Runs a file or ``-c`` with this interpreter, in a process of its own that may die."""

    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}

    def run(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment | dict(env or {}))

    return run


@pytest.fixture(scope="session")
def folder(child: Child, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.pdmodel`` with its parameters, and ``expected.npz``: an input ``image``, and ``scores`` as trained."""
    made = tmp_path_factory.mktemp("model")
    done = child(HERE / "make_model.py", made)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def expected(folder: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    return dict(np.load(folder / "expected.npz"))
