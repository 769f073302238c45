"""What the commands tell of Paddle as a target: of the real one that is installed, and with a stand-in for its GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("paddle.inference")

Place = Callable[..., None]
Trtd = Callable[..., Any]


def test_doctor_tells_how_paddle_was_built(trtd: Trtd) -> None:
    """A wheel for CPUs on a machine with a GPU is the first thing to look for."""
    done = trtd("doctor")
    assert done.status == 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("Paddle: ")]
    assert line.endswith(", built for CPUs")
    assert (
        "paddle           builds here and verifies, in fp32 alone: target paddle in fp16 needs paddlepaddle" in done.out
    )
    assert "paddle-tensorrt  cannot build: target paddle-tensorrt needs paddlepaddle-gpu" in done.out


def test_doctor_tells_the_tensorrt_that_paddle_was_compiled_with_and_finds(paddle_gpu: Place, trtd: Trtd) -> None:
    """The hint of the error about a missing library sends people here."""
    paddle_gpu()
    found = trtd("doctor")
    assert ", built with GPUs and TensorRT 8.5.3; finds TensorRT 8.5.3\n" in found.out
    assert "paddle-tensorrt  builds here and verifies\n" in found.out
    assert "paddlepaddle-gpu " in found.out
    paddle_gpu("no-libnvinfer")
    data = trtd("doctor", "--json").document["data"]["paddle"]
    assert (data["gpu"], data["tensorrt"], data["tensorrt_found"]) == (True, "8.5.3", "")
    assert "TensorRT dynamic library" in data["tensorrt_missing"]
