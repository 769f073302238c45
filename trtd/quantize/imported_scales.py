"""The scales of a quantized Paddle model as a source of Q/DQ for a target, checked against the graph they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.errors import QuantizationError
from trtd.model.paddle_scales import along
from trtd.model.pir_rounding import QMAX
from trtd.quantize.bounds import lowest
from trtd.quantize.graph import constant
from trtd.quantize.imported import ImportedQuantization, RoundedWeight
from trtd.quantize.placement import Placement
from trtd.quantize.scales import ActivationType, Affine

Array = np.ndarray[Any, Any]

_MOVES = frozenset({"Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"})
_ANOTHER = "quantization.json and the graph come from different conversions: convert the model again"
_STEP_TOLERANCE = 1e-3  # of float32 weights from the whole numbers that they stand for


class ImportedScales:
    """Raises ``QuantizationError`` if ``quantization`` names what ``graph`` has not, or its weights are others."""

    def __init__(self, graph: ir.Graph, quantization: ImportedQuantization, placement: Placement) -> None:
        self._placement = placement
        self._weights = {weight.tensor: weight for weight in quantization.weights}
        self._amax: dict[str, float] = {}
        names = Names(graph)
        scaled = [(each.tensor, each.amax) for each in quantization.activations]
        scaled += [(each.tensor, each.amax) for each in quantization.observed]
        for name, amax in scaled:
            self._amax[_name(names[name])] = max(amax, self._amax.get(name, 0.0))
        for weight in quantization.weights:
            whole_weight(names, weight)

    def activation(self, value: ir.Value) -> Affine | None:
        """Symmetric as in Paddle; in uint8, no steps are spent on values below what the operator can give.

        Rounding commutes with moving values, so what only moves them has the scale of what it moves.
        """
        maker = value.producer()
        while value.name not in self._amax and maker is not None and maker.op_type in _MOVES and maker.inputs[0]:
            value, maker = maker.inputs[0], maker.inputs[0].producer()
        amax = self._amax.get(value.name or "")
        if amax is None:
            return None
        low = lowest(value)
        if self._placement.activation == "int8" or low is None or low <= -amax:
            return symmetric(amax, self._placement.activation)
        low = min(low, 0.0)
        scale = float(np.float32((amax - low) / 255))
        return Affine(scale, round(-low / scale), "uint8")

    def weight(self, node: ir.Node, weight: Array, axis: int) -> Array:
        """Paddle's scales, with which the weights round to Paddle's integers.

        Where the CPU cannot add products of 8-bit weights, they are rounded once more, to 7 bits.
        """
        found = self._weights[_name(node.inputs[1])]
        if found.axis not in (-1, axis):
            raise QuantizationError(f"the scales of '{found.tensor}' lie on axis {found.axis}", hint=_ANOTHER)
        limit = QMAX if self._placement.weight_bits == 8 else QMAX // 2
        return np.broadcast_to(np.array(found.amax) / limit, (weight.shape[axis],))

    def left_float(self, node: ir.Node) -> bool:
        """Whether a node has a constant weight that Paddle did not round."""
        return constant(node.inputs[1]) is not None and _name(node.inputs[1]) not in self._weights


def symmetric(amax: float, dtype: ActivationType) -> Affine:
    """Paddle's rounding to -128 ... 127 steps of amax / 127; in uint8, zero point 128 holds exactly those."""
    return Affine(float(np.float32(amax / QMAX)), 128 if dtype == "uint8" else 0, dtype)


class Names:
    """Values of a graph by name."""

    def __init__(self, graph: ir.Graph) -> None:
        self._values = {value.name: value for node in graph for value in node.outputs}
        self._values |= {value.name: value for value in graph.inputs} | dict(graph.initializers.items())

    def __getitem__(self, name: str) -> ir.Value:
        """Raises ``QuantizationError`` if there is none of that name."""
        if name not in self._values:
            raise QuantizationError(f"the graph has no tensor '{name}', which has imported scales", hint=_ANOTHER)
        return self._values[name]


def whole_weight(names: Names, weight: RoundedWeight) -> Array:
    """The whole numbers that a weight stands for, int8. Raises ``QuantizationError`` if it is not made of such."""
    array = constant(names[weight.tensor])
    fits = array is not None and len(weight.amax) == (1 if weight.axis < 0 else array.shape[weight.axis])
    if array is None or not fits:
        raise QuantizationError(f"the scales of '{weight.tensor}' do not fit it", hint=_ANOTHER)
    steps = array / along(np.array(weight.amax) / QMAX, weight.axis, array.ndim)
    whole = np.rint(steps)
    if not np.abs(steps - whole).max(initial=0) < _STEP_TOLERANCE or np.abs(whole).max(initial=0) > QMAX + 1:
        raise QuantizationError(f"'{weight.tensor}' is not made of whole numbers times its scales", hint=_ANOTHER)
    return whole.astype(np.int8)


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
