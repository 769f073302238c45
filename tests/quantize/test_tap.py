"""Tapped graphs show inner tensors and are otherwise the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantize.graphs import Net, every_tensor, noise, run
from trtd.errors import QuantizationError
from trtd.quantize.tap import supply, tap


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    net = Net({"x": [1, 4, 6, 6]})
    net.node("Split", [net.node("Relu", [net.conv("x", "c", (4, 4))], "r")], "s", axis=1)
    net.nodes[-1].output[:] = ["s", "t"]
    made = net.model(net.conv("s", "y", (2, 2)), "r")
    onnx.save(made, tmp_path / "model.onnx")
    return made


def test_inner_tensors_become_outputs(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Calibration sees exactly what the graph computes, the second output of a node too; outputs stay first."""
    wanted = ["c", "t", "r", "y", "c"]
    assert tap(tmp_path / "model.onnx", wanted, tmp_path / "tapped.onnx") == ["c", "t", "r", "y"]
    tapped = onnx.load(tmp_path / "tapped.onnx")
    onnx.checker.check_model(tapped)
    assert [o.name for o in tapped.graph.output] == ["y", "r", "c", "t"]
    (feeds,) = noise(model, 1)
    expected = every_tensor(model, feeds)
    for name, array in run(tapped, feeds).items():
        assert np.array_equal(array, expected[name]), name


def test_inputs_constants_and_strangers_are_not_exposed(model: onnx.ModelProto, tmp_path: Path) -> None:
    """An input is known already, and a name of another graph is the caller's to notice."""
    assert tap(tmp_path / "model.onnx", ["x", "c_w", "nowhere"], tmp_path / "tapped.onnx") == []
    assert [o.name for o in onnx.load(tmp_path / "tapped.onnx").graph.output] == ["y", "r"]


def test_the_source_is_left_alone(model: onnx.ModelProto, tmp_path: Path) -> None:
    """It lies in the content-addressed store, which other builds read."""
    before = (tmp_path / "model.onnx").read_bytes()
    tap(tmp_path / "model.onnx", ["c"], tmp_path / "tapped.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """A torn file in the store must be named, not end in a protobuf traceback."""
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x08garbage")
    with pytest.raises(QuantizationError, match=r"torn\.onnx: the graph cannot be read"):
        tap(tmp_path / "torn.onnx", [], tmp_path / "tapped.onnx")


def test_a_supplied_tensor_is_read_and_still_computed(model: onnx.ModelProto) -> None:
    """What is compared step by step must not be what was fed."""
    graph = ir.from_proto(model)
    (given,) = supply(graph, ["c"]).values()
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    (feeds,) = noise(model, 1)
    truth = every_tensor(model, feeds)
    supplied = every_tensor(made, feeds | {given: np.zeros_like(truth["c"])})
    np.testing.assert_array_equal(supplied["c"], truth["c"])
    assert not supplied["r"].any()
