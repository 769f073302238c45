"""Mending what paddle2onnx writes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from trtd.errors import ConversionError
from trtd.model.facts import TensorFacts
from trtd.model.onnx_repair import repair

X = TensorFacts(name="x", dtype="float32", shape=(2, 3))


def _model(
    nodes: list[onnx.NodeProto], outputs: dict[str, list[int]], constants: list[onnx.TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info(name, 1, dims) for name, dims in outputs.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": np.arange(6, dtype="float32").reshape(2, 3)}))


def test_outputs_get_the_source_models_names_in_order() -> None:
    """Gates in a spec name outputs as Paddle does."""
    nodes = [helper.make_node("Relu", ["x"], ["fetch_0"]), helper.make_node("Neg", ["x"], ["fetch_1"])]
    model = _model(nodes, {"fetch_0": [2, 3], "fetch_1": [2, 3]}, [])
    names = ["softmax_0.tmp_0", "save/scale_1"]
    repair(model, [X], [TensorFacts(name=name, dtype="float32", shape=(2, 3)) for name in names])
    assert [value.name for value in model.graph.output] == names
    first, second = _run(model)
    np.testing.assert_array_equal(first, -second)


@pytest.mark.parametrize("name", ["y", "other"])
def test_scalars_are_scalars_again(name: str) -> None:
    """paddle2onnx reshapes a full reduction to (1,), which Paddle declares as a scalar."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Reshape", ["s", "minus"], ["y"]),
    ]
    model = _model(nodes, {"y": []}, [helper.make_tensor("minus", 7, [1], [-1])])
    repair(model, [X], [TensorFacts(name=name, dtype="float32", shape=())])
    (total,) = _run(model)
    assert total.shape == ()
    assert total == 15


def test_a_concatenation_of_mixed_ranks_is_mended() -> None:
    """A shape made of 0-D and 1-D pieces, as Paddle allows."""
    nodes = [
        helper.make_node("Concat", ["three", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = [helper.make_tensor("three", 7, [], [3]), helper.make_tensor("rest", 7, [1], [-1])]
    model = _model(nodes, {"y": [3, 2]}, constants)
    repair(model, [X], [TensorFacts(name="y", dtype="float32", shape=(3, 2))])
    (reshaped,) = _run(model)
    assert reshaped.shape == (3, 2)


def test_a_changed_interface_is_refused() -> None:
    """An input or output that got lost would shift all others."""
    model = _model([helper.make_node("Relu", ["x"], ["y"])], {"y": [2, 3]}, [])
    y = TensorFacts(name="y", dtype="float32", shape=(2, 3))
    with pytest.raises(ConversionError, match="1 outputs, but the model has 2"):
        repair(model, [X], [y, y])
    with pytest.raises(ConversionError, match="inputs"):
        repair(model, [TensorFacts(name="image", dtype="float32", shape=())], [y])


def test_suppression_over_an_open_number_of_boxes_keeps_the_right_ones() -> None:
    """paddle2onnx writes -1 for the number of boxes; the kept boxes then carry other boxes' scores."""
    boxes = np.array([[[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]]], "float32")
    scores = np.array([[[0.9, 0.8, 0.7], [0.3, 0.6, 0.5]]], "float32")
    nodes = [
        helper.make_node("Slice", ["scores", "from", "to", "last"], ["some"]),
        helper.make_node("NonMaxSuppression", ["boxes", "some", "top", "iou", "low"], ["kept"]),
        helper.make_node("Gather", ["kept", "one"], ["class"], axis=1),
        helper.make_node("Gather", ["kept", "two"], ["box"], axis=1),
        helper.make_node("Constant", [], ["open"], value=helper.make_tensor("open", 7, [1], [-1])),
        helper.make_node("Mul", ["class", "open"], ["offset"]),
        helper.make_node("Add", ["offset", "box"], ["place"]),
        helper.make_node("Reshape", ["some", "open"], ["flat"]),
        helper.make_node("Gather", ["flat", "place"], ["y"]),
    ]
    integers = {"from": 0, "to": 3, "last": 2, "top": 9, "one": 1, "two": 2}
    constants = [
        onnx.numpy_helper.from_array(boxes, "boxes"),
        onnx.numpy_helper.from_array(scores, "scores"),
        *(helper.make_tensor(name, 7, [1], [value]) for name, value in integers.items()),
        *(helper.make_tensor(name, 1, [1], [0.5 if name == "iou" else 0.0]) for name in ("iou", "low")),
    ]
    model = _model([*nodes, helper.make_node("Relu", ["x"], ["z"])], {"y": [-1, 1], "z": [2, 3]}, constants)
    facts = [TensorFacts(name=name, dtype="float32", shape=(None, None)) for name in "yz"]
    repair(model, [X], facts)
    found = sorted(float(value) for value in _run(model)[0].reshape(-1))
    assert found == sorted(float(value) for value in scores.reshape(-1))
