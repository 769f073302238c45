"""Specs through the commands with Paddle 2.6.2: what needs no GPU is built, what this Paddle cannot do is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paddle_gpu.conftest import Child
from tests.paddle_gpu.test_refusals import PIR
from tests.paddle_gpu.wheel import need_the_wheel

need_the_wheel()

Arrays = Mapping[str, np.ndarray[Any, Any]]

SPEC = """\
[model]
path = "{model}"
[model.inputs.image]
min = [1, 1, 8, 8]
opt = [2, 1, 8, 8]
max = [4, 1, 8, 8]
[engine]
target = "{target}"
precision = "fp32"
[verify]
data = "{data}"
latency_runs = 5
"""


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    def write(model: Path, target: str) -> Path:
        np.save(tmp_path / "images.npy", np.random.default_rng(1).random((4, 1, 8, 8), np.float32))
        path = tmp_path / "net.toml"
        path.write_text(SPEC.format(model=model, target=target, data=tmp_path / "images.npy"))
        return path

    return write


def trtd(child: Child, *arguments: str | Path) -> Any:
    """On a machine that looks as if it had no GPU."""
    return child("-m", "trtd", *arguments, env={"TRTD_ALLOWED_ROOTS": "/", "CUDA_VISIBLE_DEVICES": ""})


def test_a_spec_becomes_an_engine_and_a_script(
    spec: Any, child: Child, folder: Path, tmp_path: Path, expected: Arrays
) -> None:
    """All stages with this Paddle as the one that is installed: prepare, build, reference, verify."""
    registry = tmp_path / "registry"
    assert trtd(child, "init", registry).returncode == 0
    done = trtd(child, "build", spec(folder / "model.pdmodel", "paddle"), "--registry", registry)
    assert done.returncode == 0, done.stderr
    np.savez(tmp_path / "in.npz", image=expected["image"])
    done = child(registry / "engines" / "net" / "1" / "run.py", tmp_path / "in.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    (found,) = np.load(tmp_path / "out.npz").values()
    np.testing.assert_allclose(found, expected["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["paddle", "paddle-tensorrt"])
def test_a_pir_program_is_refused_before_anything_runs(target: str, spec: Any, child: Child) -> None:
    """Paddle 2.6.2 would end with SIGSEGV."""
    done = trtd(child, "check", spec(PIR, target))
    assert done.returncode == 2
    assert "model.path: is a PIR program (.json), at which Paddle 2.6 crashes" in done.stderr
    assert "FLAGS_enable_pir_api=0" in done.stderr


def test_a_build_for_the_gpu_says_that_there_is_none(spec: Any, child: Child, folder: Path, tmp_path: Path) -> None:
    """The daemon waits for an environment, exit 4; a stage that failed would be final."""
    registry = tmp_path / "registry"
    assert trtd(child, "init", registry).returncode == 0
    done = trtd(child, "build", spec(folder / "model.pdmodel", "paddle-tensorrt"), "--registry", registry)
    assert done.returncode == 4
    assert "target paddle-tensorrt runs on a GPU, and there is none here" in done.stderr
