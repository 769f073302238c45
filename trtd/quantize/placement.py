"""Which nodes run in 8 bits: the choice, made per target, before any Q/DQ node is written.

Operators fall in five classes. *Weighted* ones (Conv, MatMul, Gemm) are what quantization is for. *Joins* (Add,
Mul, Concat, pooling) pay only when every input is 8-bit already. *Residuals* are Adds that the target folds into the
convolution before them, which then reads the other summand in 8 bits. *Gates* (HardSigmoid) squash into 0..1 and need
no calibration. *Views* (MaxPool, Reshape, Resize) rearrange values and keep the scale of their input. Joins, gates and
views are kept only where some weighted operator downstream takes their output, since elsewhere they would lose
precision for no gain. Rounding commutes with views and Concat, so it is written in front of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import onnx_ir as ir

from trtd.quantize.affine import gate_scale, uses_past_scalars
from trtd.quantize.fold import output_channel_axis
from trtd.quantize.graph import constant, data_inputs, is_float32, sole_consumer
from trtd.quantize.scales import ActivationType
from trtd.quantize.upsample import stride_of_patches


@dataclass(frozen=True)
class Placement:
    """How one target wants its Q/DQ.

    Attributes:
        weighted, joins, gates, views: operator types of each class that the target has 8-bit kernels for.
        fused: activations that the target folds into the operator before them; Clip only from 0 up.
        activation: ``uint8`` affine or ``int8`` symmetric.
        weight_bits: 8, or 7 where the CPU multiplies in saturating 16-bit pairs.
        output_needed: weighted operators that become 8-bit kernels only if their output is quantized too.
        min_channels: a dense Conv with fewer input channels, or a ConvTranspose with fewer output channels, stays FP32.
        adding: weighted operators that take in an Add behind them.
        channels_last: the target keeps 8-bit images as height, width, channels: :mod:`trtd.quantize.upsample`.
        rounded_bias: biases are int32 with the scale of the products; else they stay float.
        overlapping: transposed convolutions have an 8-bit kernel even where their patches overlap.
    """

    weighted: frozenset[str]
    joins: frozenset[str]
    gates: frozenset[str]
    views: frozenset[str]
    fused: frozenset[str]
    activation: ActivationType
    weight_bits: Literal[7, 8]
    output_needed: frozenset[str]
    min_channels: int
    adding: frozenset[str] = frozenset()
    channels_last: bool = False
    rounded_bias: bool = True
    overlapping: bool = False

    def is_candidate(self, node: ir.Node) -> bool:
        """Whether ``node`` is of one of the classes."""
        return node.op_type in self.weighted | self.joins | self.gates | self.views or self.is_residual(node)

    def is_residual(self, node: ir.Node) -> bool:
        return self.folded_summand(node) is not None

    def folded_summand(self, node: ir.Node) -> int | None:
        """Which input of an Add comes from the operator that takes the Add in, the first such; None if neither does."""
        if node.op_type != "Add" or not self.adding:
            return None
        for index, value in enumerate(node.inputs):
            maker = None if value is None else value.producer()
            if maker is not None and maker.op_type in self.adding and sole_consumer(maker.outputs[0]) is node:
                return index
        return None


@dataclass
class Choice:
    """The outcome: nodes that run in 8 bits, in graph order, and why the other candidates do not."""

    nodes: list[ir.Node] = field(default_factory=list)
    kept_float: dict[str, str] = field(default_factory=dict)


def choose(
    graph: ir.Graph, placement: Placement, *, exclude: Sequence[str] = (), exclude_ops: Sequence[str] = ()
) -> Choice:
    """Choose the nodes of ``graph`` that run in 8 bits.

    Args:
        graph: float32, topologically sorted, every node named.
        exclude: names or shell-style globs of nodes that stay FP32.
        exclude_ops: operator types that stay FP32.
    """
    useless: dict[int, str] = {}
    while True:
        choice = _candidates(graph, placement, exclude, exclude_ops, useless)
        chosen = {id(n) for n in choice.nodes}
        before = len(useless)
        for node in reversed(choice.nodes):
            reason = _useless(node, placement, chosen)
            if reason:
                chosen.discard(id(node))
                useless[id(node)] = reason
        if len(useless) == before:
            return choice


def observed_tensors(graph: ir.Graph, placement: Placement) -> list[str]:
    """Names of every tensor that may need a scale, whatever is excluded later.

    Excluding a node only removes scales from this list, so that one calibration pass serves every exclusion.
    """
    candidates = _candidates(graph, placement, (), (), {}).nodes
    names: dict[str, None] = {}
    for node in candidates:
        values = quantized_inputs(node, placement)
        if node.op_type not in placement.gates | placement.views:
            values = [*values, fused_output(node, placement)]
        names.update(dict.fromkeys(v.name or "" for v in values))
    scaled_otherwise = {n.outputs[0].name for n in candidates if n.op_type in placement.gates | placement.views}
    return [name for name in names if name not in scaled_otherwise]


def quantized_inputs(node: ir.Node, placement: Placement) -> list[ir.Value]:
    """The run-time inputs of ``node`` that carry 8-bit data, without shape, index and bias inputs."""
    return [v for index, v in data_inputs(node) if is_data_input(node, index, placement)]


def is_data_input(node: ir.Node, index: int, placement: Placement) -> bool:
    """Whether input ``index`` of a node that runs in 8 bits carries 8-bit data, and not sizes, scales or a bias."""
    own = placement.folded_summand(node)
    if own is not None:
        return index == 1 - own
    return index == 0 or node.op_type in placement.joins


def fused_output(node: ir.Node, placement: Placement) -> ir.Value:
    """The value to quantize behind ``node``: its own output, or that of an activation the target folds into it."""
    output = node.outputs[0]
    follower = sole_consumer(output)
    folds = node.op_type in placement.weighted or placement.is_residual(node)
    if folds and follower is not None and _is_fused(follower, placement):
        return follower.outputs[0]
    return output


def _is_fused(node: ir.Node, placement: Placement) -> bool:
    """Whether rounding to the calibrated range clips as ``node`` does, so that the target drops it."""
    if node.op_type != "Clip" or "Clip" not in placement.fused:
        return node.op_type in placement.fused
    low, high = (constant(v) for v in (*node.inputs[1:], None, None)[:2])
    return low is not None and high is not None and float(low) == 0


def _candidates(
    graph: ir.Graph,
    placement: Placement,
    exclude: Sequence[str],
    exclude_ops: Sequence[str],
    useless: Mapping[int, str],
) -> Choice:
    choice = Choice()
    eight_bit: set[int] = set()
    for node in graph:
        if not placement.is_candidate(node):
            continue
        reason = _excluded(node, exclude, exclude_ops) or useless.get(id(node)) or _unfit(node, placement, eight_bit)
        if reason:
            choice.kept_float[_name(node)] = reason
            continue
        choice.nodes.append(node)
        eight_bit.add(id(fused_output(node, placement)))
    return choice


def _useless(node: ir.Node, placement: Placement, chosen: set[int]) -> str:
    """Why an 8-bit ``node`` would gain nothing, given the nodes downstream that are chosen; empty if it would."""
    if node.op_type in placement.weighted or placement.is_residual(node):
        return ""
    output = node.outputs[0]
    lifted = _moves_values(node, placement) or node.op_type == "Add"
    if lifted and not _is_from(quantized_inputs(node, placement), chosen):
        # Rounding in front of it instead of behind it is cheaper if all its readers want it rounded.
        if output.is_graph_output() or not all(_reads_rounded(use, placement, chosen) for use in output.uses()):
            return "its input is float, and a float operator reads it"
    elif not any(_reads_rounded(use, placement, chosen) for use in uses_past_scalars(output)):
        return "no 8-bit operator reads it"
    return ""


def _reads_rounded(use: tuple[ir.Node, int], placement: Placement, chosen: set[int]) -> bool:
    node, index = use
    return id(node) in chosen and is_data_input(node, index, placement)


def _moves_values(node: ir.Node, placement: Placement) -> bool:
    return node.op_type in placement.views or node.op_type == "Concat"


def _is_from(values: Sequence[ir.Value], chosen: set[int]) -> bool:
    return all((producer := v.producer()) is not None and id(producer) in chosen for v in values)


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type


def _excluded(node: ir.Node, exclude: Sequence[str], exclude_ops: Sequence[str]) -> str:
    if node.op_type in exclude_ops:
        return f"excluded by operator type {node.op_type}"
    pattern = next((p for p in exclude if fnmatchcase(_name(node), p)), None)
    return f"excluded by {pattern!r}" if pattern else ""


def _unfit(node: ir.Node, placement: Placement, eight_bit: set[int]) -> str:
    """Why ``node`` cannot or should not run in 8 bits; empty if it should."""
    own = placement.folded_summand(node)
    if own is not None:
        return _residual_unfit(node, own, eight_bit)
    inputs = quantized_inputs(node, placement)
    if not inputs or not all(is_float32(v) for v in inputs):
        return "its inputs are not float32"
    if node.op_type in placement.weighted:
        return _weighted_unfit(node, placement)
    if node.op_type in placement.joins and any(constant(v) is not None for v in node.inputs if v is not None):
        return "one of its inputs is a constant"
    if node.op_type == "Mul" and _broadcasts(inputs):
        return "8-bit multiplication with broadcasting is slower than FP32"
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return "only nearest-neighbour resizing keeps the scale of its input"
    if node.op_type in placement.gates and gate_scale(node) is None:
        return "its slope or its offset does not fit into 8 bits"
    rounded = [id(v) in eight_bit for v in inputs]
    # An Add of one rounded and one float input is still cheaper in 8 bits, the float one rounded first.
    if not _moves_values(node, placement) and not (any(rounded) if node.op_type == "Add" else all(rounded)):
        return "an input comes from a float operator"
    return ""


def _residual_unfit(node: ir.Node, own: int, eight_bit: set[int]) -> str:
    summands = [v for v in node.inputs if v is not None]
    other = summands[1 - own]
    if id(summands[own]) not in eight_bit:
        return "the convolution before it runs in float"
    if constant(other) is not None or not is_float32(other):
        return "its other input is not computed in float32"
    return "its inputs differ in shape" if _broadcasts(summands) else ""


def _broadcasts(values: Sequence[ir.Value]) -> bool:
    """True if some value is known to have another rank, or extent 1 where another has more."""
    shapes = [v.shape for v in values]
    known = [tuple(shape) for shape in shapes if shape is not None]
    return len({len(s) for s in known}) > 1 or any(
        1 in dims and len(set(dims)) > 1 for dims in zip(*known, strict=False)
    )


def _weighted_unfit(node: ir.Node, placement: Placement) -> str:
    weight, axis = constant(node.inputs[1]), output_channel_axis(node)
    if weight is None or weight.dtype != np.float32 or constant(node.inputs[0]) is not None:
        return "its weight is not a float32 constant"
    if axis is None:
        return "its weight has no single output-channel axis"
    if not np.isfinite(weight).all():
        return "its weight holds NaN or infinity"
    if any(index >= 2 for index, _ in data_inputs(node)):
        return "its bias is computed at run time"
    if node.op_type == "Conv" and node.attributes.get_int("group", 1) == 1 and weight.shape[1] < placement.min_channels:
        return f"a dense convolution over {weight.shape[1]} channels is faster in FP32 on this target"
    if node.op_type == "ConvTranspose" and (
        not (placement.overlapping or stride_of_patches(node)) or weight.shape[1] < placement.min_channels
    ):
        return "only transposed convolutions without overlap, to several channels, have an 8-bit form"
    if node.op_type == "Gemm" and _scaled_gemm(node):
        return "alpha, beta and transA other than 1, 1 and 0 have no 8-bit kernel"
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and (bias.size not in (1, weight.shape[axis]) or bias.shape[-1:] not in ((), (bias.size,))):
        return "its bias differs from row to row"
    return ""


def _scaled_gemm(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        attributes.get_float("alpha", 1.0) != 1.0
        or attributes.get_float("beta", 1.0) != 1.0
        or attributes.get_int("transA", 0) != 0
    )
