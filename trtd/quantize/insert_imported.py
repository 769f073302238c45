"""Writing the scales of a quantized Paddle model into the graph that was converted from it.

Two ways. :func:`insert_imported` rounds where the target gains from it, as for any model, by Paddle's scales and with
Paddle's integer weights. :func:`insert_as_paddle` rounds exactly where Paddle's own run does, and so gives what that
run gives, at whatever speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from glob import escape

import numpy as np
import onnx_ir as ir

from trtd.errors import QuantizationError
from trtd.model.pir_rounding import QMAX
from trtd.quantize.graph import remove_dead, set_input
from trtd.quantize.imported import ImportedQuantization, RoundedWeight
from trtd.quantize.imported_scales import ImportedScales, Names, symmetric, whole_weight
from trtd.quantize.placement import Choice, Placement, choose, fused_output
from trtd.quantize.qdq import QdqWriter, Quantized, check_opset
from trtd.quantize.qdq_nodes import write_constant_dq, write_pair
from trtd.quantize.scales import ActivationType


def insert_imported(
    model: ir.Model,
    quantization: ImportedQuantization,
    placement: Placement,
    *,
    exclude: Sequence[str] = (),
    exclude_ops: Sequence[str] = (),
) -> Quantized:
    """Quantize ``model`` in place, where ``placement`` wants it and Paddle recorded the scales for it.

    What Paddle left in float stays float. Ranges that Paddle only observed serve where the target rounds and Paddle's
    own run does not.

    Raises:
        QuantizationError: nothing is left to quantize, or ``quantization`` belongs to another graph.
    """
    check_opset(model)
    graph = model.graph
    names = Names(graph)
    for each in quantization.activations:
        names[each.rounded].replace_all_uses_with(names[each.tensor])
    remove_dead(graph)
    source = ImportedScales(graph, quantization, placement)
    reasons = {
        _name(node): "it is not quantized in the Paddle model"
        for node in graph
        if node.op_type in placement.weighted and source.left_float(node)
    }
    choice = _choose(graph, placement, reasons, exclude, exclude_ops)
    while lacking := QdqWriter(graph, source, placement, choice).unscaled():
        for value, readers in lacking:
            makers = [node for node in choice.nodes if fused_output(node, placement) is value]
            reasons |= {_name(node): f"Paddle recorded no range of '{value.name}'" for node in readers or makers}
        choice = _choose(graph, placement, reasons, exclude, exclude_ops)
    choice = Choice(choice.nodes, {name: reasons.get(name, why) for name, why in choice.kept_float.items()})
    if not any(node.op_type in placement.weighted for node in choice.nodes):
        raise QuantizationError(
            "no operator is left to run in INT8: the target runs none of those that Paddle quantized in 8 bits",
            hint="quantize conv2d, depthwise_conv2d, mul and matmul_v2 in Paddle, or build from the float model",
        )
    return QdqWriter(graph, source, placement, choice).write()


def _choose(
    graph: ir.Graph, placement: Placement, reasons: Iterable[str], exclude: Sequence[str], exclude_ops: Sequence[str]
) -> Choice:
    return choose(graph, placement, exclude=[*exclude, *map(escape, reasons)], exclude_ops=exclude_ops)


def insert_as_paddle(
    model: ir.Model, quantization: ImportedQuantization, activation: ActivationType = "int8"
) -> Quantized:
    """Write Q/DQ into ``model``, in place, exactly where Paddle's own run rounds: symmetric, biases in float.

    A weight whose operator reads no rounded activation stays float, which is the same number: as integers, onnxruntime
    would round that activation besides (its MatMulNBits).

    Raises:
        QuantizationError: ``quantization`` belongs to another graph.
    """
    check_opset(model)
    graph = model.graph
    names = Names(graph)
    written = Quantized([], {})
    rounded = set()
    for each in quantization.activations:
        scale = symmetric(each.amax, activation)
        dequantized = write_pair(graph, names[each.tensor], scale, scale, each.rounded)
        names[each.rounded].replace_all_uses_with(dequantized)
        written.tensors[each.tensor] = dequantized.name or ""
        rounded.add(dequantized)
    for weight in quantization.weights:
        for node, index in list(names[weight.tensor].uses()):
            if rounded & set(node.inputs):
                _write_weight(names, weight, node, index)
                written.nodes.append(_name(node))
            else:
                written.kept_float[_name(node)] = "Paddle rounds its weight, but not what it reads"
    remove_dead(graph)
    return written


def _write_weight(names: Names, weight: RoundedWeight, node: ir.Node, index: int) -> None:
    """Put DQ of whole numbers in the place of a float weight."""
    scales = (np.array(weight.amax) / QMAX).astype(np.float32)
    stored = scales if weight.axis >= 0 else scales.reshape(())
    whole = whole_weight(names, weight)
    set_input(node, index, write_constant_dq(node, f"{_name(node)}.weight", whole, stored, weight.axis))


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or ""
