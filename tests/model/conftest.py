"""Real Paddle models, exported once a session by Paddle in a process of its own, and a small ONNX model."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def _export(folder: Path, names: list[str], pir: str) -> Path:
    if find_spec("paddle") is None:
        pytest.skip("paddlepaddle is not installed")
    script = Path(__file__).with_name("export_models.py")
    environment = os.environ | {"FLAGS_enable_pir_api": pir}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *names], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def pir_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one exported PIR model in each of its folders."""
    names = ["cnn", "cured", "fixed_pools", "recurrent", "shapeless", "unsupported"]
    return _export(tmp_path_factory.mktemp("pir"), names, "1")


@pytest.fixture(scope="session")
def program_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the older format: the same network as the PIR ``cnn``, and a program with the operators of Paddle 2."""
    return _export(tmp_path_factory.mktemp("program"), ["cnn", "older"], "0")


def small_onnx() -> onnx.ModelProto:
    """x (N, 3, H, W) -> Conv -> BatchNormalization -> Relu -> y; node names are missing or doubled."""
    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int, positive: bool = False) -> onnx.TensorProto:
        array = rng.standard_normal(shape, "float32")
        return numpy_helper.from_array(np.abs(array) + 0.5 if positive else array, name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "same", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], "same"),
        helper.make_node("Identity", ["n"], ["i"]),
        helper.make_node("Relu", ["i"], ["y"]),
    ]
    constants = [constant("w", 4, 3, 3, 3), *(constant(n, 4, positive=n == "v") for n in "sbmv")]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, "H", "W"])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    file = tmp_path / "small.onnx"
    onnx.save(small_onnx(), str(file))
    return file
