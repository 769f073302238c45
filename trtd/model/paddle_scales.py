"""The numbers of a quantized Paddle model: scales and rounded weights, read from its parameters and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtd.errors import ModelError
from trtd.model.params_values import read_values
from trtd.model.pir_cut import Cut
from trtd.model.pir_rounding import QMAX, Rounding

Array = np.ndarray[Any, Any]

# Paddle adds 1e-6 to scales up to here instead of dividing by them (phi/kernels/funcs/fake_quantize_functor.h).
_NO_SCALE = 1e-30
_VANISHING = 1e-33  # a weight of this magnitude changes no float32 sum
_TORN = "The parameters are damaged, or of another export: copy the .pdiparams again, or export the model again."


@dataclass(frozen=True)
class Scaled:
    """A cut with its numbers.

    Attributes:
        cut: where it is.
        amax: largest magnitude that is kept, float64; of shape () or (channels,). ONNX's scale is ``amax / 127``.
        weight: int8, in Paddle's shape; ``None`` for activations.
    """

    cut: Cut
    amax: Array
    weight: Array | None


def read_scales(cuts: Sequence[Cut], file: Path, declared: Iterable[str]) -> list[Scaled]:
    """Read what ``cuts`` name from a ``.pdiparams`` file whose parameters are ``declared``.

    What was observed to be zero at all times has no scale and is left out. Raises ``ModelError`` naming the parameter
    where a scale is NaN, infinite, zero or negative, where there are too many or too few, where a zero point is not 0,
    or where a rounded weight is not made of whole numbers.
    """
    roundings = [each.rounding for each in cuts]
    wanted = {n for r in roundings for n in (*r.scales, *r.zero_points, r.weight)}
    values = read_values(file, declared, wanted)
    found = []
    for each in cuts:
        _check_zero_points(each.rounding, values)
        amax = _amax(each, values)
        if each.kind == "weight":
            weight = _rounded(values[each.rounding.weight], each.rounding, amax)
            found.append(_without_dead_channels(Scaled(each, amax, weight)))
        elif amax > _NO_SCALE:
            found.append(Scaled(each, amax, None))
        elif each.kind == "rounded":
            raise ModelError(
                f"scale '{each.rounding.scales[0]}' is 0: calibration saw nothing but zeros there",
                hint="Quantize the model again with data that reaches it, or leave that tensor out (skip_tensor_list).",
            )
    return found


def _amax(each: Cut, values: Mapping[str, Array]) -> Array:
    first, *others = (values[name].astype(np.float64).reshape(-1) for name in each.rounding.scales)
    name, axis = each.rounding.scales[0], each.rounding.axis
    if any(not np.array_equal(first, other) for other in others):
        raise ModelError(f"scales {list(each.rounding.scales)} of one pair of operators differ", hint=_TORN)
    if not np.isfinite(first).all() or (first < 0).any():
        worst = first[~np.isfinite(first) | (first < 0)][0]
        raise ModelError(f"scale '{name}' is {worst:g}, but must be a magnitude", hint=_TORN)
    if axis >= 0 and each.kind != "weight":
        raise ModelError(
            f"scale '{name}' is one per channel of an activation",
            hint="Quantize activations with one scale per tensor: no target has kernels for more.",
        )
    wanted = 1 if axis < 0 else each.shape[axis] if axis < len(each.shape) else 0
    if first.size != wanted:
        where = "one tensor" if axis < 0 else f"axis {axis} of {list(each.shape)}"
        raise ModelError(f"'{name}' holds {first.size} scales for {where}", hint=_TORN)
    return first.reshape(()) if axis < 0 else first


def _check_zero_points(rounding: Rounding, values: Mapping[str, Array]) -> None:
    for name in rounding.zero_points:
        if values[name].any():
            raise ModelError(
                f"zero point '{name}' is not 0",
                hint="Paddle's kernels do not read zero points, so the model cannot mean it: " + _TORN,
            )


def _rounded(stored: Array, rounding: Rounding, amax: Array) -> Array:
    """The weight as int8, by the arithmetic of Paddle's kernel where it is stored unrounded."""
    if rounding.stored:
        whole = np.rint(stored)
        if not np.array_equal(whole, stored) or whole.min(initial=0) < -QMAX - 1 or whole.max(initial=0) > QMAX:
            raise ModelError(f"weight '{rounding.weight}' is not rounded to 8 bits, but is used as such", hint=_TORN)
        return whole.astype(np.int8)
    if not np.isfinite(stored).all():
        raise ModelError(f"weight '{rounding.weight}' holds NaN or infinity", hint=_TORN)
    scales = np.where(amax > _NO_SCALE, amax, amax + 1e-6).astype(np.float32)
    factors = np.float32(QMAX) * (np.float32(1) / along(scales, rounding.axis, stored.ndim))
    steps = factors * stored.astype(np.float32)
    if rounding.ties_away:
        return np.clip(np.trunc(steps + np.copysign(np.float32(0.5), steps)), -QMAX, QMAX).astype(np.int8)
    return np.clip(np.rint(steps), -QMAX - 1, QMAX).astype(np.int8)


def _without_dead_channels(scaled: Scaled) -> Scaled:
    """Give channels of zeros, for which Paddle stores the scale 0, some scale, and make those that vanish zeros.

    Training leaves channels whose largest weight is 1e-34: in float32, ONNX's scale for them would have no inverse.
    """
    rounding, weight = scaled.cut.rounding, scaled.weight
    assert weight is not None
    dead = along(scaled.amax < _VANISHING, rounding.axis, weight.ndim)
    if (weight[np.broadcast_to(along(scaled.amax == 0, rounding.axis, weight.ndim), weight.shape)] != 0).any():
        raise ModelError(
            f"scale '{rounding.scales[0]}' is 0 for weights of '{rounding.weight}' that are not", hint=_TORN
        )
    amax = np.where(scaled.amax < _VANISHING, float(QMAX), scaled.amax)
    return Scaled(scaled.cut, amax, np.where(dead, 0, weight).astype(np.int8))


def along(scales: Array, axis: int, rank: int) -> Array:
    """``scales``, one or one per channel, in a shape that broadcasts over a tensor with channels on ``axis``."""
    shape = [1] * rank
    if axis >= 0:
        shape[axis] = -1
    return scales.reshape(shape)
