"""QuantizeLinear and DequantizeLinear nodes, with their constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.quantize.graph import add_constant
from trtd.quantize.scales import Affine

Array = np.ndarray[Any, Any]


def write_pair(graph: ir.Graph, source: ir.Value, quantize: Affine, dequantize: Affine, name: str) -> ir.Value:
    """Write Q on ``source`` and DQ behind it, named after ``name``; returns what DQ yields."""
    q = ir.node("QuantizeLinear", [source, *_parameters(graph, f"{name}.q", quantize)], name=f"{name}.Q")
    dq = ir.node("DequantizeLinear", [q.outputs[0], *_parameters(graph, f"{name}.dq", dequantize)], name=f"{name}.DQ")
    q.outputs[0].name, dq.outputs[0].name = f"{name}.quantized", f"{name}.dequantized"
    dq.outputs[0].shape, dq.outputs[0].type = source.shape, source.type
    producer = source.producer()
    if producer is None:
        graph.insert_before(graph[0], [q, dq])
    else:
        graph.insert_after(producer, [q, dq])
    return dq.outputs[0]


def write_constant_dq(node: ir.Node, name: str, array: Array, scales: Array, axis: int) -> ir.Value:
    """Write DQ of the integers ``array`` in front of ``node``; ``scales`` is float32, one or one a channel."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs = [
        add_constant(graph, f"{name}.quantized", array),
        add_constant(graph, f"{name}.scale", scales),
        add_constant(graph, f"{name}.zero_point", np.zeros(scales.shape, array.dtype)),
    ]
    dq = ir.node("DequantizeLinear", inputs, {"axis": axis} if scales.ndim else {}, name=f"{name}.DQ")
    dq.outputs[0].name = f"{name}.dequantized"
    graph.insert_before(node, dq)
    return dq.outputs[0]


def _parameters(graph: ir.Graph, name: str, affine: Affine) -> tuple[ir.Value, ir.Value]:
    scale, zero_point = affine.arrays()
    return add_constant(graph, f"{name}.scale", scale), add_constant(graph, f"{name}.zero_point", zero_point)
