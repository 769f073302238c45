"""Small ONNX models to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_sum(path: Path) -> Path:
    """y = a * 2 + b and its index of the largest value; a is (n, 3) float32, b is (1,) float32."""
    nodes = [
        helper.make_node("Mul", ["a", "two"], ["twice"], "double"),
        helper.make_node("Add", ["twice", "b"], ["y"], "add"),
        helper.make_node("ArgMax", ["y"], ["best"], "best", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["n"]),
        ],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_gather(path: Path) -> Path:
    """y = table[index], with a table of four rows: fails while it runs where the index is 4 or more."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["y"], "look_up")],
        "gather",
        [helper.make_tensor_value_info("index", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
