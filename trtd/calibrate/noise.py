"""Quantization noise, expected from a histogram alone, and the clip that makes it least (the ``mse`` method)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trtd.calibrate.histogram import Counts, Histogram, without_zero_spike

Values = NDArray[np.float64]
Cost = Callable[[Values], Values]

AMAX_STEPS = 127
RANGE_STEPS = 255

COARSE, FINE = 40, 12
"""Candidates of one search: a geometric sweep, then two linear ones between the neighbours of the best."""


class NoiseModel:
    """Mean squared error of rounding and clipping values that lie as a histogram says.

    Values are taken to be spread evenly within their bin. The squared error of the quantizer is then integrated
    exactly over every bin: it is ``(x - step * k)**2`` with ``k`` the nearest level, clipped. The spike of exact zeros
    is left out, since zero is a level of every format. Lengths are in bins.
    """

    def __init__(self, first_bin: int, counts: Counts) -> None:
        density = without_zero_spike(first_bin, counts)
        self._edges = np.arange(first_bin, first_bin + len(counts) + 1, dtype=np.float64)
        # The sum over bins of density * (G(right) - G(left)), summed by parts: G is needed once for each edge.
        self._drops = -np.diff(density, prepend=0.0, append=0.0)
        self.values = max(float(counts.sum()), 1.0)

    def noise(self, steps: Values, lowest: Values, highest: Values) -> Values:
        """Mean squared error in bins² of quantizers ``step * clip(round(x / step), lowest, highest)``, shape (n,)."""
        step = steps[:, None]
        level = np.rint(self._edges / step)
        np.clip(level, lowest[:, None], highest[:, None], out=level)
        rest = self._edges - level * step
        integral = rest * rest * rest
        integral /= 3
        level *= step**3 / 12
        integral += level
        return np.maximum(integral @ self._drops, 0.0) / self.values

    def signal(self) -> float:
        """Mean square of the values in bins²."""
        return max(float(self._edges**3 / 3 @ self._drops), 0.0) / self.values


def symmetric_noise(model: NoiseModel, amax: Values) -> Values:
    """Noise of int8 with scale ``amax / 127``, zero point 0, -127..127; for a model of ``|x|``. Lengths in bins."""
    limit = np.full_like(amax, AMAX_STEPS)
    return model.noise(amax / AMAX_STEPS, -limit, limit)


def affine_noise(model: NoiseModel, low: Values, high: Values) -> Values:
    """Noise of 8-bit with scale ``(high - low) / 255`` and a whole zero point; for a signed model. Lengths in bins."""
    step = (high - low) / RANGE_STEPS
    zero_point = np.rint(-low / step)
    return model.noise(step, -zero_point, RANGE_STEPS - zero_point)


def mse_amax(histogram: Histogram) -> float:
    """The ``amax`` whose symmetric int8 has the least expected squared error; never more than that of min-max."""
    model = NoiseModel(0, histogram.magnitudes())
    limit = histogram.amax / histogram.bin_width
    return _search(lambda amax: symmetric_noise(model, amax), limit, limit) * histogram.bin_width


def mse_range(histogram: Histogram) -> tuple[float, float]:
    """Low and high whose affine 8-bit has the least expected squared error; never more than that of min-max.

    First both ends are drawn in together, then each in turn while the other rests, twice.
    """
    model = NoiseModel(*histogram.signed())
    width = histogram.bin_width
    lowest, highest = min(histogram.min, 0.0) / width, max(histogram.max, 0.0) / width
    limit = max(-lowest, highest)
    reach = _search(lambda t: affine_noise(model, np.maximum(lowest, -t), np.minimum(highest, t)), limit, limit)
    low, high = max(lowest, -reach), min(highest, reach)
    for _ in range(2 if lowest < 0 < highest else 0):
        high = _search(partial(_noise_above, model, low), highest, high)
        low = -_search(partial(_noise_below, model, high), -lowest, -low)
    return low * width, high * width


def decibels(signal: float, noise: float) -> float:
    """Signal over noise in dB; infinite without noise."""
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _noise_above(model: NoiseModel, low: float, high: Values) -> Values:
    return affine_noise(model, np.full_like(high, low), high)


def _noise_below(model: NoiseModel, high: float, depth: Values) -> Values:
    return affine_noise(model, -depth, np.full_like(depth, high))


def _search(cost: Cost, limit: float, start: float) -> float:
    """Where ``cost`` is least in ``(0, limit]``: never worse than at ``start`` and at ``limit``."""
    grid = np.append(np.geomspace(limit / 512, limit, COARSE), start)
    grid[COARSE - 1] = limit  # geomspace may miss its end by a rounding
    best, least, span = start, math.inf, (limit / 512, limit)
    for _ in range(3):
        costs = cost(grid)
        found = int(np.argmin(costs))
        if costs[found] < least:
            best, least = float(grid[found]), float(costs[found])
        ordered = np.sort(grid)
        at = int(np.searchsorted(ordered, best))
        span = (float(ordered[max(at - 1, 0)]), float(ordered[min(at + 1, len(ordered) - 1)]))
        grid = np.linspace(*span, FINE)
    return best
