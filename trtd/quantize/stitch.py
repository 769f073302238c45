"""Sew a float graph with open ends together again, and know afterwards which tensor is rounded with which scale.

Where Paddle rounds an activation, an ``Identity`` marks the place, so that the graph stays float and runs everywhere:
what the Identity reads is rounded, and what reads the Identity reads it rounded.

Weights come back as float constants, whole numbers times their scales. Folding BatchNorm and other affine steps into
them multiplies a channel by some number, and so its scale by the magnitude of that number: the whole numbers stay those
that Paddle rounded to, or change sign. A fold that could not keep them (-128 has no opposite in int8) does not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.model.paddle_scales import Scaled, along
from trtd.model.pir_rounding import QMAX
from trtd.quantize.fold import fold_affine, fold_residual_gates, fuse_biases, output_channel_axis
from trtd.quantize.graph import add_constant, constant, remove_dead
from trtd.quantize.imported import ImportedQuantization, ObservedTensor, RoundedTensor, RoundedWeight
from trtd.quantize.scales import TINY
from trtd.quantize.weight_views import settle_views

Array = np.ndarray[Any, Any]


@dataclass
class Weight:
    """A rounded weight as one node reads it: largest magnitudes, float64, one or one for each index of ``axis``."""

    node: ir.Node
    index: int
    amax: Array
    axis: int
    parameter: str

    @property
    def value(self) -> ir.Value:
        value = self.node.inputs[self.index]
        assert value is not None
        return value


@dataclass
class Stitched:
    """A float graph and what is rounded in it.

    Attributes:
        model: closed again, topologically sorted.
        weights: by node and input that reads them.
        rounded: the Identity of each rounded activation, with its scale.
        observed: scales of tensors that Paddle observed, by the tensor.
    """

    model: ir.Model
    weights: list[Weight] = field(default_factory=list)
    rounded: list[tuple[ir.Node, Scaled]] = field(default_factory=list)
    observed: dict[ir.Value, Scaled] = field(default_factory=dict)


def stitch(model: ir.Model, scaled: Sequence[Scaled], outputs: int) -> Stitched:
    """Close the ends of ``model``, in place; its first ``outputs`` outputs are the model's own."""
    graph = model.graph
    stitched = Stitched(model)
    inputs = {value.name: value for value in graph.inputs}
    sources = inputs | {value.name: value for value in graph.outputs}
    graph.outputs[outputs:] = []  # deleting a slice would leave the values marked as outputs
    sources = {name: _without_copies(value) for name, value in sources.items()}
    for each in scaled:
        if each.cut.kind == "weight":
            stitched.weights += _place_weight(graph, inputs[each.cut.name], each)
        elif each.cut.kind == "rounded":
            node = _mark(graph, sources[each.cut.source], inputs[each.cut.name], each)
            sources[each.cut.name] = node.outputs[0]
            stitched.rounded.append((node, each))
    for each in scaled:
        if each.cut.kind == "observed":
            stitched.observed[sources[each.cut.source]] = each
    _settle_constants(stitched)
    remove_dead(graph)
    graph.sort()
    return stitched


def fold(stitched: Stitched) -> int:
    """Fold what :mod:`trtd.quantize.fold` folds, scales included; returns how many nodes went."""
    by_node = {weight.node: weight for weight in stitched.weights if weight.index == 1}

    def consent(node: ir.Node, step: ir.Node, factor: Array) -> bool:
        weight = by_node.get(node)
        if weight is not None and not _rescale(weight, factor):
            return False
        stitched.observed.pop(node.outputs[0], None)
        if step.outputs[0] in stitched.observed:
            stitched.observed[node.outputs[0]] = stitched.observed.pop(step.outputs[0])
        return True

    model = stitched.model
    return fold_affine(model, consent) + fold_residual_gates(model, consent) + fuse_biases(model, consent)


def record(stitched: Stitched, source_digest: str) -> ImportedQuantization:
    """What is rounded, by names, after giving tensors those of Paddle's variables where these can be told."""
    _name_after_paddle(stitched)
    weights = {w.value.name: w for w in stitched.weights}
    present = {value for node in stitched.model.graph for value in node.outputs} | set(stitched.model.graph.inputs)
    rounded = [each for _, each in stitched.rounded]
    return ImportedQuantization(
        source_digest=source_digest,
        ties_away=any(each.cut.rounding.ties_away for each in rounded),
        activations=tuple(
            RoundedTensor(
                tensor=_name(node.inputs[0]),
                rounded=_name(node.outputs[0]),
                amax=float(each.amax),
                parameter=each.cut.rounding.scales[0],
            )
            for node, each in stitched.rounded
        ),
        observed=tuple(
            ObservedTensor(tensor=_name(value), amax=float(each.amax), parameter=each.cut.rounding.scales[0])
            for value, each in stitched.observed.items()
            if value in present
        ),
        weights=tuple(
            RoundedWeight(
                tensor=_name(w.value),
                axis=w.axis,
                amax=tuple(float(a) for a in w.amax.reshape(-1)),
                parameter=w.parameter,
            )
            for w in weights.values()
        ),
    )


def _place_weight(graph: ir.Graph, end: ir.Value, each: Scaled) -> list[Weight]:
    """Put the weight, dequantized, in the place of the input that stood for it."""
    assert each.weight is not None
    name, axis = each.cut.rounding.weight, each.cut.rounding.axis
    array = each.weight * (along(each.amax, axis, each.weight.ndim) / QMAX)
    value = add_constant(graph, name, array.astype(np.float32))
    end.replace_all_uses_with(value)
    graph.inputs.remove(end)
    readers = settle_views(graph, value, axis)
    return [Weight(node, index, each.amax, moved, name) for node, index, moved in readers]


def _without_copies(value: ir.Value) -> ir.Value:
    """What ``value`` is a plain copy of: the ends kept copies alive that serve nothing once they are closed."""
    node = value.producer()
    if node is None or node.op_type != "Identity" or value.is_graph_output() or node.inputs[0] is None:
        return value
    value.replace_all_uses_with(node.inputs[0])
    return _without_copies(node.inputs[0])


def _mark(graph: ir.Graph, source: ir.Value, end: ir.Value, each: Scaled) -> ir.Node:
    """Put an Identity of ``source`` in the place of the input that stood for the rounded value."""
    node = ir.node("Identity", [source], name=f"Round.{each.cut.name.rpartition('.')[2]}")
    result = node.outputs[0]
    result.name, result.type, result.shape = each.cut.name, source.type, source.shape
    graph.append(node)
    end.replace_all_uses_with(result)
    graph.inputs.remove(end)
    return node


def _settle_constants(stitched: Stitched) -> None:
    """Round constants, such as biases that Paddle rounds when the model runs, here and now."""
    for node, each in list(stitched.rounded):
        array = constant(node.inputs[0])
        if array is None:
            continue
        steps = np.clip(np.rint(array / (each.amax / QMAX)), -QMAX - 1, QMAX)
        rounded = (steps * (each.amax / QMAX)).astype(np.float32)
        value = add_constant(stitched.model.graph, _name(node.outputs[0]), rounded)
        node.outputs[0].replace_all_uses_with(value)
        stitched.rounded.remove((node, each))


def _rescale(weight: Weight, factor: Array) -> bool:
    """Take a factor for each output channel into the scales; says whether that is possible without loss."""
    array, axis = constant(weight.value), output_channel_axis(weight.node)
    assert array is not None
    if axis is None or weight.axis not in (-1, axis):
        return False
    amax = np.broadcast_to(weight.amax, factor.shape)
    steps = np.rint(array / along(amax / QMAX, axis, array.ndim))
    lowest = np.moveaxis(steps, axis, 0).reshape(len(factor), -1).min(axis=1)
    scaled = np.where(factor == 0, amax, amax * np.abs(factor))
    if ((lowest < -QMAX) & (factor < 0)).any() or (scaled < TINY * QMAX).any():
        return False
    weight.amax, weight.axis = scaled, axis
    return True


def _name_after_paddle(stitched: Stitched) -> None:
    taken = {v.name for node in stitched.model.graph for v in node.outputs} | set(stitched.model.graph.initializers)
    taken |= {value.name for value in stitched.model.graph.inputs}
    named = [(node.outputs[0], each, ".rounded") for node, each in stitched.rounded]
    named += [(value, each, "") for node, each in stitched.rounded for value in node.inputs if value is not None]
    named += [(value, each, "") for value, each in stitched.observed.items()]
    for value, each, suffix in named:
        variable = each.cut.rounding.scales[0].removesuffix("@scale")
        if (
            value.is_graph_input()
            or value.is_graph_output()
            or variable == each.cut.rounding.scales[0]
            or variable + suffix in taken
        ):
            continue
        value.name = variable + suffix
        taken.add(value.name)


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return value.name or ""
