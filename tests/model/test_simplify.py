"""Simplification: folded, standard, named, and still the same function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtd.errors import ConversionError
from trtd.model.onnx_source import copy_checked
from trtd.model.simplify import simplify


@pytest.fixture
def copied(onnx_file: Path, tmp_path: Path) -> Path:
    """The small model as ``to_onnx`` hands it over: its nodes have unique names."""
    copy_checked(onnx_file, tmp_path / "copied.onnx", lambda line: None)
    return tmp_path / "copied.onnx"


def _run(file: Path, feed: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": feed})[0])


def _transposed(tail: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x -> ConvTranspose -> tail -> y, 3 channels to 4."""
    weight = np.random.default_rng(1).standard_normal((3, 4, 2, 2), "float32")
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["t0"], strides=[2, 2]), *tail]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", 1, ["N", 4, None, None])],
        [numpy_helper.from_array(array, name) for name, array in ({"w": weight} | constants).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_folding_leaves_a_bare_convolution(copied: Path, tmp_path: Path) -> None:
    """BatchNorm and Identity cost time and, quantized, accuracy."""
    out = tmp_path / "out.onnx"
    simplify(copied, out)
    model = onnx.load(str(out))
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]
    feed = np.random.default_rng(0).standard_normal((2, 3, 6, 5), "float32")
    np.testing.assert_allclose(_run(copied, feed), _run(out, feed), rtol=1e-4, atol=1e-5)


def test_interface_names_and_shapes(copied: Path, tmp_path: Path) -> None:
    """Specs name inputs, gates name outputs, exclusions name nodes; open dimensions must stay open."""
    out = tmp_path / "out.onnx"
    simplify(copied, out)
    model = onnx.load(str(out))
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "N",
        3,
        "H",
        "W",
    ]
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert {value.name for value in model.graph.value_info} == {node.output[0] for node in model.graph.node[:-1]}


def test_the_result_depends_on_the_input_alone(copied: Path, tmp_path: Path) -> None:
    """Else the store would never hit."""
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    simplify(copied, first)
    simplify(copied, second)
    assert first.read_bytes() == second.read_bytes()


ROW = np.array([0.5, -1.0, 2.0, 0.25], dtype="float32")
BATCH_NORM = {"s": ROW, "b": ROW + 1, "m": ROW * 2, "v": np.abs(ROW) + 0.5}


@pytest.mark.parametrize(
    ("tail", "constants", "left"),
    [
        ([helper.make_node("BatchNormalization", ["t0", *"sbmv"], ["y"])], BATCH_NORM, ["ConvTranspose"]),
        ([helper.make_node("Add", ["t0", "a"], ["y"])], {"a": ROW.reshape(1, 4, 1, 1)}, ["ConvTranspose"]),
        (
            [
                helper.make_node("Add", ["a", "t0"], ["t1"]),
                helper.make_node("BatchNormalization", ["t1", *"sbmv"], ["t2"]),
                helper.make_node("Mul", ["t2", "k"], ["t3"]),
                helper.make_node("Relu", ["t3"], ["y"]),
            ],
            BATCH_NORM | {"a": ROW.reshape(1, 4, 1, 1), "k": np.array(3, "float32")},
            ["ConvTranspose", "Relu"],
        ),
        # not per channel: must stay
        ([helper.make_node("Add", ["t0", "a"], ["y"])], {"a": ROW.reshape(1, 1, 1, 4)}, ["ConvTranspose", "Add"]),
        ([helper.make_node("Mul", ["t0", "t0"], ["y"])], {}, ["ConvTranspose", "Mul"]),
    ],
)
def test_what_follows_a_transposed_convolution(
    tail: list[onnx.NodeProto], constants: dict[str, np.ndarray], left: list[str], tmp_path: Path
) -> None:
    """onnxruntime folds behind Conv only; the text detector's head has two transposed convolutions."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(_transposed(tail, constants), str(before))
    simplify(before, after)
    assert [node.op_type for node in onnx.load(str(after)).graph.node] == left
    feed = np.random.default_rng(2).standard_normal((2, 3, 3, 2), "float32")
    np.testing.assert_allclose(_run(before, feed), _run(after, feed), rtol=1e-4, atol=1e-5)


def test_operators_outside_the_standard_are_refused(tmp_path: Path) -> None:
    """onnxruntime runs its own operators, no other backend does."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "g", value[:1], value[1:]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), str(tmp_path / "m.onnx"))
    with pytest.raises(ConversionError, match=r"com\.microsoft::Gelu"):
        simplify(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_graph_that_cannot_be_loaded_is_a_conversion_error(tmp_path: Path) -> None:
    """onnxruntime's exceptions are its own; the daemon knows ours."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    shape = helper.make_tensor("shape", 7, [2], [-1, -1])
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "m.onnx"))
    with pytest.raises(ConversionError, match="cannot load"):
        simplify(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_what_protobuf_cannot_hold_lies_beside_the_graph(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above 2 GiB; the limits are lowered here, as the real size fits no test machine."""
    for module in ("simplify", "onnx_file"):
        monkeypatch.setattr(f"trtd.model.{module}.INSIDE_LIMIT_BYTES", 64)
        monkeypatch.setattr(f"trtd.model.{module}.EXTERNAL_MIN_BYTES", 64)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "big.onnx"
    for _ in range(2):  # a second run must not append to the first one's data
        simplify(copied, out)
        assert sorted(file.name for file in folder.iterdir()) == ["big.onnx", "big.onnx.data"]
    assert (folder / "big.onnx.data").stat().st_size < 2 * copied.stat().st_size
    feed = np.random.default_rng(0).standard_normal((2, 3, 6, 5), "float32")
    np.testing.assert_allclose(_run(copied, feed), _run(out, feed), rtol=1e-4, atol=1e-5)
