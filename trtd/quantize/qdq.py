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
from trtd.quantize.graph import constant, hand_over, remove_dead, set_input
from trtd.quantize.placement import Choice, Placement, choose, fused_output, is_data_input, quantized_inputs
from trtd.quantize.qdq_nodes import write_constant_dq, write_pair
from trtd.quantize.scale_source import ScaleSource, TableScales
from trtd.quantize.scales import Affine, quantize_weight, widen_for_bias
from trtd.quantize.upsample import copy_rows

Array = np.ndarray[Any, Any]

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
    check_opset(model)
    choice = choose(model.graph, placement, exclude=exclude, exclude_ops=exclude_ops)
    if not any(n.op_type in placement.weighted for n in choice.nodes):
        raise QuantizationError(
            f"no operator is left to run in INT8{_reasons(model.graph, placement, choice)}",
            hint="INT8 takes Conv, Gemm and MatMul with constant float32 weights that [quantization] does not exclude; "
            'build the model with precision = "fp16" or "fp32", or loosen exclude',
        )
    return QdqWriter(model.graph, TableScales(table, method, placement), placement, choice).write()


def check_opset(model: ir.Model) -> None:
    """Raise ``QuantizationError`` for an opset without scales per channel."""
    opset = model.opset_imports.get("", 0)
    if opset < LOWEST_OPSET:
        raise QuantizationError(
            f"the graph has opset {opset}, and per-channel scales need {LOWEST_OPSET}",
            hint=f"export the model with opset {LOWEST_OPSET} or above",
        )


class QdqWriter:
    """Writes Q/DQ around the nodes of a choice, once."""

    def __init__(self, graph: ir.Graph, source: ScaleSource, placement: Placement, choice: Choice) -> None:
        self.graph = graph
        self.source = source
        self.placement = placement
        self.choice = choice
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

    def unscaled(self) -> list[tuple[ir.Value, list[ir.Node]]]:
        """Values to be rounded that no scale is known of, and the chosen nodes that read them."""
        readers = self._readers().items()
        return [(value, nodes) for value, (nodes, _) in readers if self._find_scale(value) is None]

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
        scale = self._find_scale(value)
        if scale is None:
            raise QuantizationError(
                f"the calibration table has no range for tensor {value.name!r}",
                hint="the table is of another graph or target; recalibrate: trtd calibrate SPEC --force",
            )
        return scale

    def _find_scale(self, value: ir.Value) -> Affine | None:
        """The scale of ``value``, or of what it is a view of."""
        while (known := self.source.activation(value)) is None:
            if id(value) in self.scales:
                return self.scales[id(value)]
            producer = value.producer()
            if producer is not None and producer.op_type in self.placement.gates:
                return GATE
            if producer is None or producer.op_type not in self.placement.views:
                return None
            source = producer.inputs[0]
            assert source is not None
            value = source
        return known

    def _pair(self, source: ir.Value, quantize: Affine, dequantize: Affine, name: str) -> ir.Value:
        """Write Q on ``source`` and DQ behind it; the two differ where an affine chain is absorbed."""
        dequantized = write_pair(self.graph, source, quantize, dequantize, name)
        self.scales[id(dequantized)] = dequantize
        self.tensors[name] = dequantized
        return dequantized

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
        scales = self.source.weight(node, weight, axis)
        if bias is not None and self.placement.rounded_bias:
            scales = widen_for_bias(scales, bias, input_scale)
        scales = scales.astype(np.float32)
        stem = node.name or node.outputs[0].name or ""
        set_input(
            node,
            1,
            write_constant_dq(node, f"{stem}.weight", quantize_weight(weight, scales, axis, bits), scales, axis),
        )
        if bias is not None and self.placement.rounded_bias:
            bias_scales = (scales.astype(np.float64) * input_scale).astype(np.float32)
            rounded = np.clip(np.rint(bias / bias_scales.astype(np.float64)), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            set_input(node, BIAS, write_constant_dq(node, f"{stem}.bias", rounded, bias_scales, 0))


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
