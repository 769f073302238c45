"""Writing Q/DQ into a float graph: explicit quantization, as ONNX Runtime and TensorRT read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.calibrate.table import CalibrationTable, Method
from trtd.errors import QuantizationError
from trtd.quantize.affine import GATE, chain_behind, gate_scale
from trtd.quantize.fold import output_channel_axis
from trtd.quantize.graph import add_constant, constant, hand_over, remove_dead, set_input
from trtd.quantize.placement import Choice, Placement, choose, fused_output, is_data_input, quantized_inputs
from trtd.quantize.scales import Affine, activation_scale, quantize_weight, weight_scales, widen_for_bias
from trtd.quantize.upsample import copy_rows

BIAS = 2
LOWEST_OPSET = 13


@dataclass
class Quantized:
    """What was written.

    Attributes:
        nodes: names of the nodes that run in 8 bits.
        kept_float: name of every other candidate, and why.
        tensors: per float tensor, the tensor of the rewritten graph that carries its dequantized value.
    """

    nodes: list[str]
    kept_float: dict[str, str]
    tensors: dict[str, str] = field(default_factory=dict)


def insert_qdq(
    model: ir.Model,
    table: CalibrationTable,
    placement: Placement,
    *,
    method: Method,
    exclude: Sequence[str] = (),
    exclude_ops: Sequence[str] = (),
) -> Quantized:
    """Quantize ``model`` in place.

    Weights become int8 with one symmetric scale per output channel, activations get the scale that ``method`` found
    (Nagel et al. 2021, "A White Paper on Neural Network Quantization"), biases int32 with scale input x weight.

    Raises:
        QuantizationError: nothing is left to quantize, or the table lacks a tensor.
    """
    opset = model.opset_imports.get("", 0)
    if opset < LOWEST_OPSET:
        raise QuantizationError(
            f"the graph has opset {opset}, and per-channel scales need {LOWEST_OPSET}",
            hint=f"export the model with opset {LOWEST_OPSET} or above",
        )
    choice = choose(model.graph, placement, exclude=exclude, exclude_ops=exclude_ops)
    if not any(n.op_type in placement.weighted for n in choice.nodes):
        raise QuantizationError(
            f"no operator is left to run in INT8{_reasons(model.graph, placement, choice)}",
            hint="INT8 takes Conv, Gemm and MatMul with constant float32 weights that [quantization] does not exclude; "
            'build the model with precision = "fp16" or "fp32", or loosen exclude',
        )
    return _Writer(model.graph, table, placement, choice, method).write()


class _Writer:
    def __init__(
        self, graph: ir.Graph, table: CalibrationTable, placement: Placement, choice: Choice, method: Method
    ) -> None:
        self.graph = graph
        self.table = table
        self.placement = placement
        self.choice = choice
        self.method = method
        self.chosen = {id(n) for n in choice.nodes}
        self.scales: dict[int, Affine] = {}  # by id of the dequantized value
        self.offsets: dict[int, float] = {}  # what an absorbed chain left for the bias, by id of the dequantized value
        self.tensors: dict[str, ir.Value] = {}

    def write(self) -> Quantized:
        readers = self._readers()
        for value, (nodes, everywhere) in readers.items():
            self._write_activation(value, nodes, everywhere)
        for node in self.choice.nodes:
            if node.op_type in self.placement.gates:
                self._write_gate(node)
        for node in self.choice.nodes:
            if node.op_type in self.placement.weighted:
                self._write_weights(node)
        remove_dead(self.graph)
        if self.placement.channels_last:
            copy_rows(self.graph)
        tensors = {name: value.name or "" for name, value in self.tensors.items()}
        return Quantized([n.name or "" for n in self.choice.nodes], self.choice.kept_float, tensors)

    def _readers(self) -> dict[ir.Value, tuple[list[ir.Node], bool]]:
        """Every value to quantize: the chosen nodes that read it, and whether float readers take it rounded too.

        A chosen node's output is rounded for all readers, or the target could not fuse the rounding into the node.
        """
        found: dict[ir.Value, tuple[list[ir.Node], bool]] = {}
        gates = self.placement.gates
        for node in self.choice.nodes:
            for value in quantized_inputs(node, self.placement):
                producer = value.producer()
                if producer is not None and id(producer) in self.chosen and producer.op_type in gates:
                    continue
                found.setdefault(value, ([], False))[0].append(node)
        for node in self.choice.nodes:
            value = fused_output(node, self.placement)
            if node.op_type not in gates and (value in found or node.op_type in self.placement.output_needed):
                found[value] = (found.get(value, ([], False))[0], True)
        return found

    def _write_activation(self, value: ir.Value, nodes: list[ir.Node], everywhere: bool) -> None:
        scale = self._scale_of(value)
        chain = None if everywhere else chain_behind(value, scale, nodes)
        uses = list(value.uses())
        if chain is None:
            dequantized = self._pair(value, scale, scale, value.name or "")
        else:
            dequantized = self._pair(chain.source, chain.quantize, scale, value.name or "")
            self.offsets[id(dequantized)] = chain.offset
        for use in uses:
            reads = any(use.node is n for n in nodes) and is_data_input(use.node, use.idx, self.placement)
            if everywhere or reads:
                use.node.replace_input_with(use.idx, dequantized)
        if everywhere and value.is_graph_output():
            _take_over_output(self.graph, value, dequantized)

    def _scale_of(self, value: ir.Value) -> Affine:
        while value.name not in self.table.tensors:
            if id(value) in self.scales:
                return self.scales[id(value)]
            producer = value.producer()
            if producer is not None and producer.op_type in self.placement.gates:
                return GATE
            if producer is None or producer.op_type not in self.placement.views:
                raise QuantizationError(
                    f"the calibration table has no range for tensor {value.name!r}",
                    hint="the table is of another graph or target; recalibrate: trtd calibrate SPEC --force",
                )
            source = producer.inputs[0]
            assert source is not None
            value = source
        return activation_scale(self.table.tensors[value.name or ""], self.method, self.placement.activation)

    def _pair(self, source: ir.Value, quantize: Affine, dequantize: Affine, name: str) -> ir.Value:
        """Write Q on ``source`` and DQ behind it; the two differ where an affine chain is absorbed."""
        q = ir.node("QuantizeLinear", [source, *self._parameters(f"{name}.q", quantize)], name=f"{name}.Q")
        dq = ir.node("DequantizeLinear", [q.outputs[0], *self._parameters(f"{name}.dq", dequantize)], name=f"{name}.DQ")
        q.outputs[0].name, dq.outputs[0].name = f"{name}.quantized", f"{name}.dequantized"
        dq.outputs[0].shape, dq.outputs[0].type = source.shape, source.type
        producer = source.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], [q, dq])
        else:
            self.graph.insert_after(producer, [q, dq])
        self.scales[id(dq.outputs[0])] = dequantize
        self.tensors[name] = dq.outputs[0]
        return dq.outputs[0]

    def _parameters(self, name: str, affine: Affine) -> tuple[ir.Value, ir.Value]:
        scale, zero_point = affine.arrays()
        return (
            add_constant(self.graph, f"{name}.scale", scale),
            add_constant(self.graph, f"{name}.zero_point", zero_point),
        )

    def _write_gate(self, node: ir.Node) -> None:
        """Put a Q/DQ pair that rounds, scales, shifts and clips in the place of a HardSigmoid."""
        x, quantize = node.inputs[0], gate_scale(node)
        assert x is not None
        assert quantize is not None
        hand_over(node.outputs[0], self._pair(x, quantize, GATE, node.outputs[0].name or ""))

    def _write_weights(self, node: ir.Node) -> None:
        weight, axis, bits = constant(node.inputs[1]), output_channel_axis(node), self.placement.weight_bits
        data = node.inputs[0]
        assert weight is not None
        assert axis is not None
        assert data is not None
        input_scale = float(np.float32(self.scales[id(data)].scale))
        bias = constant(node.inputs[BIAS]) if len(node.inputs) > BIAS else None
        bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (weight.shape[axis],)).astype(np.float64)
        offset = self.offsets.get(id(data), 0.0)
        if offset:
            others = tuple(i for i in range(weight.ndim) if i != axis)
            correction = offset * weight.astype(np.float64).sum(axis=others)
            bias = correction if bias is None else bias + correction
        scales = weight_scales(weight, axis, bits)
        if bias is not None and self.placement.rounded_bias:
            scales = widen_for_bias(scales, bias, input_scale)
        scales = scales.astype(np.float32)
        stem = node.name or node.outputs[0].name or ""
        set_input(
            node,
            1,
            self._constant_dq(node, f"{stem}.weight", quantize_weight(weight, scales, axis, bits), scales, axis),
        )
        if bias is not None and self.placement.rounded_bias:
            bias_scales = (scales.astype(np.float64) * input_scale).astype(np.float32)
            rounded = np.clip(np.rint(bias / bias_scales.astype(np.float64)), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            set_input(node, BIAS, self._constant_dq(node, f"{stem}.bias", rounded, bias_scales, 0))

    def _constant_dq(
        self, node: ir.Node, name: str, array: np.ndarray[Any, Any], scales: np.ndarray[Any, Any], axis: int
    ) -> ir.Value:
        inputs = [
            add_constant(self.graph, f"{name}.quantized", array),
            add_constant(self.graph, f"{name}.scale", scales),
            add_constant(self.graph, f"{name}.zero_point", np.zeros(scales.shape, array.dtype)),
        ]
        dq = ir.node("DequantizeLinear", inputs, {"axis": axis}, name=f"{name}.DQ")
        dq.outputs[0].name = f"{name}.dequantized"
        self.graph.insert_before(node, dq)
        return dq.outputs[0]


def _reasons(graph: ir.Graph, placement: Placement, choice: Choice) -> str:
    """Why none of the weighted operators was chosen, the most frequent reason first; empty if there are none."""
    names = [n.name or n.outputs[0].name or n.op_type for n in graph if n.op_type in placement.weighted]
    counts = Counter(choice.kept_float[name] for name in names if name in choice.kept_float)
    return "".join(f"; {count} of {len(names)}: {reason}" for reason, count in counts.most_common(3))


def _take_over_output(graph: ir.Graph, value: ir.Value, dequantized: ir.Value) -> None:
    """Return ``dequantized`` from the graph under the name of ``value``."""
    name = value.name
    index = next(i for i, v in enumerate(graph.outputs) if v is value)
    graph.outputs[index] = dequantized
    value.name, dequantized.name = f"{name}.float", name
