"""Small edits on graphs that every rewrite relies on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantize.graphs import Net, noise, run
from trtd.quantize import graph as edits
from trtd.quantize.graph import add_constant, constant, data_inputs, hand_over, remove_dead, set_input


def test_constants_are_initializers_and_nothing_else() -> None:
    """An initializer that is also an input can be overridden by the caller: it is no constant."""
    net = Net({"x": [1, 4, 6, 6], "c_b": [4]})
    model = net.model(net.conv("x", "c", (4, 4)))
    node = ir.from_proto(model).graph[0]
    assert constant(node.inputs[0]) is None
    assert constant(node.inputs[1]) is not None
    assert constant(node.inputs[2]) is None
    assert constant(None) is None
    assert [index for index, _ in data_inputs(node)] == [0, 2]


def test_names_of_new_constants_are_unique() -> None:
    """Two layers of equal name must not share their scales."""
    graph = ir.from_proto(Net({"x": [1]}).model()).graph
    names = [add_constant(graph, "scale", np.ones(1)).name for _ in range(3)]
    assert len(set(names)) == 3
    assert set(graph.initializers) == set(names)


def test_a_missing_optional_input_can_be_set() -> None:
    """A Conv without bias gets one when something is folded into it."""
    net = Net({"x": [1, 4, 6, 6]})
    made = ir.from_proto(net.model(net.conv("x", "c", (4, 4), bias=False)))
    set_input(made.graph[0], 2, add_constant(made.graph, "bias", np.ones(4, np.float32)))
    (feeds,) = noise(net.model("c"), 1)
    before, after = run(net.model("c"), feeds)["c"], run(ir.to_proto(made), feeds)["c"]
    assert after == pytest.approx(before + 1, abs=1e-5)


def test_an_heir_takes_over_readers_and_the_name_of_an_output() -> None:
    """Otherwise the graph would return the value under a name that no caller knows."""
    net = Net({"x": [1, 4]})
    net.node("Identity", [net.node("Relu", ["x"], "r")], "y")
    net.node("Exp", ["y"], "e")
    made = ir.from_proto(net.model("y", "e"))
    hand_over(made.graph.node("y").outputs[0], made.graph.node("r").outputs[0])
    remove_dead(made.graph)
    found = ir.to_proto(made)
    onnx.checker.check_model(found)
    assert [node.op_type for node in found.graph.node] == ["Relu", "Exp"]
    assert [output.name for output in found.graph.output] == ["y", "e"]
    feeds = {"x": np.array([[-1, 0, 1, 2]], np.float32)}
    assert run(found, feeds)["y"].tolist() == [[0, 0, 1, 2]]


def test_dead_nodes_go_with_their_constants() -> None:
    """What a rewrite leaves behind would be shipped with the engine."""
    net = Net({"x": [1, 4, 6, 6]})
    net.node("Relu", [net.conv("x", "dead", (4, 4))], "also_dead")
    model = net.model(net.conv("x", "y", (4, 4)))
    made = ir.from_proto(model)
    remove_dead(made.graph)
    assert [node.name for node in made.graph] == ["y"]
    assert set(made.graph.initializers) == {"y_w", "y_b"}


def test_large_weights_go_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """protobuf ends at 2 GiB; the limit is lowered here, the writing is real."""
    monkeypatch.setattr(edits, "_EXTERNAL_DATA_BYTES", 1000)
    net = Net({"x": [1, 16, 6, 6]})
    model = net.model(net.conv("x", "y", (16, 16)))
    edits.save(ir.from_proto(model), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size >= 16 * 16 * 9 * 4
    assert (tmp_path / "model.onnx").stat().st_size < 2000
    (feeds,) = noise(model, 1)
    loaded = ir.to_proto(edits.load(tmp_path / "model.onnx"))
    onnx.load_external_data_for_model(loaded, str(tmp_path))
    assert np.array_equal(run(model, feeds)["y"], run(loaded, feeds)["y"])
