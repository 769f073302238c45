"""Scalar affine steps in front of a quantized operator cost nothing: Q and DQ absorb them.

With ``y = a * h + b`` and ``y`` to be quantized with scale ``s`` and zero point ``z``, rounding ``h`` with scale
``s / a`` and zero point ``z + n`` and reading it back with ``s`` and ``z`` gives ``a * h + n * s``. Choosing
``n = round(b / s)`` leaves ``b - n * s``, at most half a step, which goes into the bias of the operator that reads it.
Where that operator pads, the padded border misses the correction, by at most half a step of its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from trtd.quantize.graph import constant, sole_consumer
from trtd.quantize.scales import LARGEST, TINY, Affine

# The scale of whatever lies between 0 and 1, as the output of HardSigmoid does.
GATE = Affine(1 / 255, 0, "uint8")


@dataclass(frozen=True)
class AffineChain:
    """Scalar Mul and Add nodes that a Q/DQ pair can stand in for.

    Attributes:
        source: the value before the chain; Q goes here.
        quantize: scale and zero point of that Q.
        offset: what remains to be added to every element the readers see.
    """

    source: ir.Value
    quantize: Affine
    offset: float


def chain_behind(value: ir.Value, scale: Affine, readers: Sequence[ir.Node]) -> AffineChain | None:
    """The chain of scalar Mul and Add that ends in ``value``, or None if there is none that can be absorbed.

    Every use of ``value`` must be the data input of one of ``readers``, a convolution or matrix product, whose bias
    takes the remaining offset.
    """
    if scale.dtype != "uint8" or not all(n.op_type in ("Conv", "Gemm", "MatMul") for n in readers):
        return None
    if value.is_graph_output() or any(use.idx != 0 or all(use.node is not n for n in readers) for use in value.uses()):
        return None
    source, factor, offset = _root(value)
    if source is value:
        return None
    low, high = scale.limits
    zero_point = min(max(scale.zero_point + round(offset / scale.scale), low), high)
    remaining = offset - (zero_point - scale.zero_point) * scale.scale
    if abs(remaining) > scale.scale:
        return None
    if remaining and any(n.op_type == "MatMul" for n in readers):
        return None  # MatMul has no bias to take it
    if not TINY <= scale.scale / factor <= LARGEST:
        return None
    return AffineChain(source, Affine(scale.scale / factor, zero_point, "uint8"), remaining)


def uses_past_scalars(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Nodes that read ``value`` and by which input, looking through scalar Mul and Add, which are yielded too."""
    for node, index in value.uses():
        yield node, index
        if scalar_step(node) is not None:
            yield from uses_past_scalars(node.outputs[0])


def gate_scale(node: ir.Node) -> Affine | None:
    """How to round the input of a HardSigmoid so that :data:`GATE` reads its output; None if 8 bits cannot.

    HardSigmoid is ``clip(alpha * x + beta, 0, 1)``: rounding with scale ``1 / (255 * alpha)`` does all of that at once.
    """
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    if alpha <= 0 or not 0 <= beta <= 1 or not TINY <= 1 / (255 * alpha) <= LARGEST:
        return None
    return Affine(1 / (255 * alpha), round(255 * beta), "uint8")


def _root(value: ir.Value) -> tuple[ir.Value, float, float]:
    """``(source, a, b)`` with value = a * source + b, walking up while each step has one reader and a > 0."""
    factor, offset, end = 1.0, 0.0, value
    while (node := value.producer()) is not None and (step := scalar_step(node)) is not None:
        if value is not end and sole_consumer(value) is None:
            break
        before, number = step
        if node.op_type == "Mul":
            factor *= number
        else:
            offset += factor * number
        value = before
    return value, factor, offset


def scalar_step(node: ir.Node) -> tuple[ir.Value, float] | None:
    """The computed input and the number of ``Mul`` by a positive scalar or ``Add`` of a scalar; None for any other."""
    if node.op_type not in ("Mul", "Add"):
        return None
    scalars = [a for v in node.inputs if (a := constant(v)) is not None and a.size == 1]
    inputs = [v for v in node.inputs if v is not None and constant(v) is None]
    if len(scalars) != 1 or len(inputs) != 1:
        return None
    if scalars[0].ndim > (0 if inputs[0].shape is None else len(inputs[0].shape)):
        return None  # it may add dimensions
    number = float(scalars[0].reshape(-1)[0])
    return None if node.op_type == "Mul" and number <= 0 else (inputs[0], number)
