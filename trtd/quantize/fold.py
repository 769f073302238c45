"""Exact folding of per-channel affine steps into the weights of the operator before them.

Paddle's exporters leave BatchNorm behind transposed convolutions and learnable scalar affine blocks behind
convolutions (PP-LCNetV3). In FP32 they cost a pass over memory; in INT8 each would need a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.quantize.graph import (
    add_constant,
    constant,
    data_inputs,
    hand_over,
    is_float32,
    remove_dead,
    set_input,
    sole_consumer,
)

Array = np.ndarray[Any, Any]
# Asked before each fold: with the node that stays, the step that goes, and the step's factor (per output channel,
# float64). A step that it refuses stays, and so does what follows.
Consent = Callable[[ir.Node, ir.Node, Array], bool]


def _always(node: ir.Node, step: ir.Node, factor: Array) -> bool:
    return True


def fold_affine(model: ir.Model, consent: Consent = _always) -> int:
    """Fold ``Mul``, ``Add`` and ``BatchNormalization`` by constants into the Conv or ConvTranspose before them.

    Exact up to float32 rounding: the arithmetic is done in float64. Only nodes that nothing else reads are folded.

    Returns:
        How many nodes were folded away.
    """
    graph = model.graph
    folded = 0
    for node in list(graph):
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        while (step := _affine_after(node)) is not None:
            follower, scale, offset = step
            if not consent(node, follower, scale):
                break
            _scale_weights(graph, node, scale, offset)
            hand_over(follower.outputs[0], node.outputs[0])
            graph.remove(follower, safe=True)
            folded += 1
    remove_dead(graph, roots=())
    return folded


def fold_residual_gates(model: ir.Model, consent: Consent = _always) -> int:
    """Rewrite ``x + x * g`` as ``x * (1 + g)`` where ``g`` is one number per channel; returns how many.

    Residual squeeze-and-excitation blocks (PP-OCRv4's neck) are written the first way, which costs a second pass over
    ``x``. Exact up to float32 rounding.
    """
    graph = model.graph
    folded = 0
    for add in list(graph):
        if add.op_type != "Add":
            continue
        for index in (0, 1):
            x, product = add.inputs[1 - index], add.inputs[index]
            mul = product.producer() if product is not None else None
            if x is None or mul is None or mul.op_type != "Mul" or sole_consumer(mul.outputs[0]) is not add:
                continue
            gate = next((v for v in mul.inputs if v is not x), None)
            if not any(v is x for v in mul.inputs) or gate is None or not _per_channel_gate(gate):
                continue
            if not consent(mul, add, np.ones(1)):
                continue
            one = add_constant(graph, f"{add.name}.one", np.ones(1, np.float32))
            raised = ir.node("Add", [gate, one], name=f"{add.name}.gate")
            raised.outputs[0].name, raised.outputs[0].type = f"{add.name}.gate", gate.type
            raised.outputs[0].shape = gate.shape
            graph.insert_before(mul, raised)
            mul.replace_input_with(list(mul.inputs).index(gate), raised.outputs[0])
            hand_over(add.outputs[0], mul.outputs[0])
            mul.outputs[0].shape = add.outputs[0].shape
            graph.remove(add, safe=True)
            folded += 1
            break
    return folded


def fuse_biases(model: ir.Model, consent: Consent = _always) -> int:
    """Turn ``MatMul`` of matrices and the ``Add`` of a bias behind it into ``Gemm``; returns how many.

    onnxruntime does so by itself, with a float bias where it comes late: then the product of 8-bit matrices is computed
    in float, from weights that are dequantized at every run.
    """
    graph = model.graph
    fused = 0
    for node in list(graph):
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        follower = sole_consumer(node.outputs[0])
        rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
        if weight is None or weight.ndim != 2 or rank != 2 or follower is None or follower.op_type != "Add":
            continue
        bias = next((a for v in follower.inputs if (a := constant(v)) is not None), None)
        if bias is None or bias.size != weight.shape[1] or bias.ndim > 2 or bias.shape[-1] != bias.size:
            continue
        if not consent(node, follower, np.ones(bias.size)):
            continue
        node.op_type = "Gemm"
        set_input(node, 2, add_constant(graph, f"{node.name}.bias", bias.reshape(-1)))
        hand_over(follower.outputs[0], node.outputs[0])
        graph.remove(follower, safe=True)
        fused += 1
    return fused


def _per_channel_gate(value: ir.Value) -> bool:
    shape = value.shape
    if shape is None or len(shape) != 4 or constant(value) is not None:
        return False
    return is_float32(value) and shape[2] == 1 and shape[3] == 1


def output_channel_axis(node: ir.Node) -> int | None:
    """Axis of the output channels in the weight of a Conv, ConvTranspose, Gemm or MatMul; None if not one axis."""
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if node.attributes.get_int("group", 1) == 1 else None
        case "Gemm":
            return 0 if node.attributes.get_int("transB", 0) else 1
        case "MatMul":
            weight = constant(node.inputs[1])
            return 1 if weight is not None and weight.ndim == 2 else None
    return None


def _affine_after(node: ir.Node) -> tuple[ir.Node, Array, Array] | None:
    """The affine node that alone reads this node's output, as (node, scale per channel, offset per channel)."""
    weight, axis = constant(node.inputs[1]), output_channel_axis(node)
    follower = sole_consumer(node.outputs[0])
    if weight is None or axis is None or follower is None or weight.dtype != np.float32:
        return None
    if any(index >= 2 for index, _ in data_inputs(node)):
        return None
    channels = weight.shape[axis]
    if follower.op_type == "BatchNormalization" and follower.inputs[0] is node.outputs[0]:
        gamma, beta, mean, variance = (constant(v) for v in follower.inputs[1:5])
        training = follower.attributes.get_int("training_mode", 0)
        if gamma is None or beta is None or mean is None or variance is None or training:
            return None
        epsilon = follower.attributes.get_float("epsilon", 1e-5)
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return follower, scale, beta - mean * scale
    if follower.op_type not in ("Mul", "Add"):
        return None
    array = next((a for v in follower.inputs if (a := constant(v)) is not None), None)
    factor = None if array is None else _per_channel(array, channels, weight.ndim)
    if factor is None:
        return None
    if follower.op_type == "Mul":
        return follower, factor, np.zeros(channels)
    return follower, np.ones(channels), factor


def _per_channel(array: Array, channels: int, rank: int) -> Array | None:
    """``array`` as one float64 per channel if it broadcasts over N, C, spatial dims that way, else None."""
    if array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(channels, float(array.reshape(-1)[0]))
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape[1] == channels and array.size == channels:
        return array.astype(np.float64).reshape(channels)
    return None


def _scale_weights(graph: ir.Graph, node: ir.Node, scale: Array, offset: Array) -> None:
    weight, axis = constant(node.inputs[1]), output_channel_axis(node)
    assert weight is not None
    assert axis is not None
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    old = np.zeros(len(scale)) if bias is None else bias.astype(np.float64)
    stem = node.name or node.outputs[0].name
    set_input(node, 1, add_constant(graph, f"{stem}.weight", (weight * scale.reshape(shape)).astype(np.float32)))
    set_input(node, 2, add_constant(graph, f"{stem}.bias", (old * scale + offset).astype(np.float32)))
