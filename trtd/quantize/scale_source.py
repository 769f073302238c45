"""Where the numbers of Q/DQ pairs come from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from trtd.calibrate.table import CalibrationTable, Method
from trtd.quantize.bounds import lowest
from trtd.quantize.placement import Placement
from trtd.quantize.scales import Affine, activation_scale, weight_scales

Array = np.ndarray[Any, Any]


class ScaleSource(Protocol):
    """Where scales come from: a calibration table, or a model that somebody else has quantized."""

    def activation(self, value: ir.Value) -> Affine | None:
        """How ``value`` itself is rounded; ``None`` if nothing is known of it."""

    def weight(self, node: ir.Node, weight: Array, axis: int) -> Array:
        """Symmetric scale for each channel of a node's weight, float64 of shape (channels,)."""


class TableScales:
    """Scales by one method of a calibration table; weights by their largest magnitudes."""

    def __init__(self, table: CalibrationTable, method: Method, placement: Placement) -> None:
        self._table, self._method, self._placement = table, method, placement

    def activation(self, value: ir.Value) -> Affine | None:
        found = self._table.tensors.get(value.name or "")
        if found is None:
            return None
        return activation_scale(found, self._method, self._placement.activation, lowest(value))

    def weight(self, node: ir.Node, weight: Array, axis: int) -> Array:
        return weight_scales(weight, axis, self._placement.weight_bits)
