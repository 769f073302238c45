"""Several commands and one GPU: each waits until it has it to itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.host import PATIENCE_S
from tests.workshop import Workshop, taken

SHAPES = "[model.inputs.x]\nmin = [1, 3, 8, 8]\nopt = [2, 3, 8, 8]\nmax = [8, 3, 8, 8]"
PYTHON = "import sys, trtd; assert trtd.build(*sys.argv[1:]).proof == 'verified'"


def gpu_spec(shop: Workshop, name: str, precision: str) -> Path:
    model = f'path = "../models/tiny.onnx"\n{SHAPES}'
    return shop.spec(name, model=model, precision=f'"{precision}"\ntarget = "tensorrt"')


def test_commands_that_use_one_gpu_wait_for_each_other(
    own: Workshop, gpus_here: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would time the other's work and call it its engine's: gates would fail, or pass, by chance.

    The GPU is a stand-in in the mode EXCLUSIVE_PROCESS: a second process that takes it fails.
    """
    gpus_here("8.9")
    (outcome,) = own.build(gpu_spec(own, "cnn", "fp16"))
    assert outcome.error is None
    monkeypatch.setenv("STAND_IN_GPU_EXCLUSIVE", str(tmp_path))
    registry = str(own.registry.root)
    trtd, place = [sys.executable, "-m", "trtd"], ["--registry", registry]
    commands = {
        "build": [*trtd, "build", str(gpu_spec(own, "built", "int8")), *place],
        "verify": [*trtd, "verify", "cnn", *place],
        "bench": [*trtd, "bench", "cnn", "--runs", "20", *place],
        "python": [sys.executable, "-c", PYTHON, str(gpu_spec(own, "other", "fp16")), registry],
    }
    errors = {name: tmp_path / f"{name}.err" for name in commands}
    with ExitStack() as ended:
        ran = {}
        with taken():
            for name, command in commands.items():
                with errors[name].open("wb") as error:
                    ran[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=error)
                ended.callback(ran[name].wait)
                ended.callback(ran[name].kill)
            for name in ("build", "verify", "bench"):  # Python is told nothing, and waits all the same
                said = f"waits, cannot use GPU-stand-in-0 to {name} "
                give_up_s = time.monotonic() + PATIENCE_S
                while said not in errors[name].read_text():
                    assert time.monotonic() < give_up_s, errors[name].read_text()
                    time.sleep(0.05)
                assert f"process {os.getpid()} " in errors[name].read_text()
        for name, process in ran.items():  # now all of them want it at once
            assert process.wait(PATIENCE_S) == 0, errors[name].read_text()
    assert own.registry.names() == ("built", "cnn", "other")
