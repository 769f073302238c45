"""Small networks for TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_scaled(path: Path, op: str = "Relu", domain: str = "") -> Path:
    """y = op(x @ w), x of shape [n, 4], w of 4 x 4."""
    weight = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1, "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "dense"),
        helper.make_node(op, ["product"], ["y"], "last", domain=domain),
    ]
    graph = helper.make_graph(
        nodes,
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def expected(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    weight = np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1
    return np.maximum(x @ weight, 0)
