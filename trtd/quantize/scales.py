"""From an observed range to the numbers that a Q/DQ pair carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trtd.calibrate.table import Method, TensorRange
from trtd.errors import QuantizationError

Array = np.ndarray[Any, Any]
ActivationType = Literal["uint8", "int8"]

# The smallest scale that keeps 1/scale finite and normal in float32.
TINY = float(np.finfo(np.float32).tiny) * 256
LARGEST = 1 / TINY

# Share of int32 that a quantized bias may take. The products are added to it without a check for overflow.
BIAS_LIMIT = 2**30


@dataclass(frozen=True)
class Affine:
    """``real = scale * (quantized - zero_point)``, per tensor."""

    scale: float
    zero_point: int
    dtype: ActivationType

    @property
    def limits(self) -> tuple[int, int]:
        return (0, 255) if self.dtype == "uint8" else (-127, 127)

    def arrays(self) -> tuple[Array, Array]:
        """Scale as float32 scalar and zero point as scalar of the quantized dtype."""
        return np.array(self.scale, np.float32), np.array(self.zero_point, self.dtype)


def activation_scale(tensor: TensorRange, method: Method, dtype: ActivationType, lowest: float | None = None) -> Affine:
    """Scale of one activation: affine over [low, high] for uint8, symmetric over amax for int8 (zero point 0).

    Args:
        lowest: smallest number that the tensor can hold. A table of symmetric ranges, as TensorRT's caches are, does
            not know it: half of the steps would be for what never comes, and a ReLU could not be left out.
    """
    if dtype == "int8":
        return Affine(_positive(tensor.amax[method] / 127), 0, "int8")
    low, high = tensor.range[method]
    if lowest is not None:
        low = max(low, min(lowest, 0.0))
    scale = _positive((high - low) / 255)
    return Affine(scale, int(np.clip(round(-low / scale), 0, 255)), "uint8")


def weight_scales(weight: Array, axis: int, bits: int) -> Array:
    """Symmetric scale per output channel, float64 of shape (channels,); channels of zeros get scale 1."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    amax = np.abs(weight).max(axis=others).astype(np.float64)
    scales: Array = np.where(amax > 0, np.maximum(amax / _weight_limit(bits), TINY), 1.0)
    return scales


def quantize_weight(weight: Array, scales: Array, axis: int, bits: int) -> Array:
    """``weight`` as int8, rounded half to even, of the same shape."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    limit = _weight_limit(bits)
    quantized: Array = np.clip(np.rint(weight / scales.reshape(shape)), -limit, limit).astype(np.int8)
    return quantized


def widen_for_bias(scales: Array, bias: Array, input_scale: float) -> Array:
    """Weight scales, raised where ``bias / (input_scale * weight_scale)`` would leave int32 no room for the products.

    Happens on channels whose weights are almost zero beside a large bias, as BatchNorm folding leaves them.
    """
    needed = np.abs(bias).astype(np.float64) / (input_scale * BIAS_LIMIT)
    raised: Array = np.maximum(np.maximum(scales, needed), TINY / input_scale)  # their product is the bias's scale
    return raised


def _weight_limit(bits: int) -> int:
    return 127 if bits == 8 else 63


def _positive(scale: float) -> float:
    if not np.isfinite(scale):
        raise QuantizationError(
            f"a scale of {scale} came out of the calibration table", hint="recalibrate: trtd calibrate SPEC --force"
        )
    return float(np.float32(max(scale, TINY)))
