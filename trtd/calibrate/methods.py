"""From a histogram to the range that is kept, by four methods, and the table that holds them all."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from trtd.calibrate.entropy import entropy_amax, entropy_range
from trtd.calibrate.histogram import Histogram
from trtd.calibrate.noise import NoiseModel, affine_noise, decibels, mse_amax, mse_range, symmetric_noise
from trtd.calibrate.observe import RangeObserver
from trtd.calibrate.table import METHODS, CalibrationTable, Method, TensorRange

ZERO_AMAX = 1.0
"""The ``amax`` of a tensor that was zero throughout: any scale represents zero, and a later non-zero survives."""

SMALLEST_AMAX = 2.0**-118
"""Ranges below this count as zero: their scale (amax / 255) would be denormal in float32, which flushes to zero."""


def amax_of(histogram: Histogram, method: Method, percentile: float = 99.99) -> float:
    """The largest magnitude that symmetric int8 keeps.

    Args:
        histogram: of the tensor.
        method: ``minmax`` keeps everything. ``percentile`` keeps that share of the magnitudes, up to the edge of a
            bin. ``entropy`` is TensorRT's KL divergence. ``mse`` has the least expected squared error.
        percentile: in percent.

    Returns:
        Greater than zero, at most the largest magnitude seen; ``ZERO_AMAX`` if that is (next to) zero.
    """
    if histogram.amax < SMALLEST_AMAX:
        return ZERO_AMAX
    if method == "minmax":
        amax = histogram.amax
    elif method == "percentile":
        magnitudes = histogram.magnitudes()
        amax = _edge_above(magnitudes, 1 - percentile / 100) * histogram.bin_width
    elif method == "entropy":
        amax = entropy_amax(histogram)
    else:
        amax = mse_amax(histogram)
    return float(min(max(amax, SMALLEST_AMAX), histogram.amax))


def range_of(histogram: Histogram, method: Method, percentile: float = 99.99) -> tuple[float, float]:
    """The range that affine 8-bit keeps; methods as in :func:`amax_of`.

    ``percentile`` cuts half of what it does not keep off each end, and all of it off the only end of a tensor that
    has one sign.

    Returns:
        ``(low, high)`` with ``low <= 0 <= high`` and ``low < high``; ``(0, ZERO_AMAX)`` if all was (next to) zero.
    """
    if histogram.amax < SMALLEST_AMAX:
        return 0.0, ZERO_AMAX
    lowest, highest = min(histogram.min, 0.0), max(histogram.max, 0.0)
    if method == "minmax":
        low, high = lowest, highest
    elif method == "percentile":
        low, high = _percentile_range(histogram, percentile)
    elif method == "entropy":
        low, high = entropy_range(histogram)
    else:
        low, high = mse_range(histogram)
    low, high = max(low, lowest), min(high, highest)
    if high - low < SMALLEST_AMAX:
        low, high = (0.0, SMALLEST_AMAX) if highest >= -lowest else (-SMALLEST_AMAX, 0.0)
    return float(low) + 0.0, float(high) + 0.0  # no -0.0


def expected_sqnr_db(tensor: TensorRange, method: Method, *, affine: bool = False) -> float:
    """Signal over quantization noise in dB that the histogram lets expect of this tensor alone.

    Only rounding and clipping of this tensor: no error of the nodes before it, none of the weights.
    ``affine`` judges ``range`` (8-bit with zero point), else ``amax`` (symmetric int8). Infinite for all zeros.
    """
    histogram = Histogram.of(tensor)
    model = NoiseModel(*histogram.signed())
    width = histogram.bin_width
    if affine:
        low, high = tensor.range[method]
        noise = affine_noise(model, np.array([low / width]), np.array([high / width]))
    else:
        noise = symmetric_noise(model, np.array([tensor.amax[method] / width]))
    return decibels(model.signal(), float(noise[0]))


def make_table(
    observers: Mapping[str, RangeObserver],
    *,
    model_digest: str,
    set_digest: str,
    samples: int,
    percentile: float = 99.99,
    threads: int = 2,
) -> CalibrationTable:
    """Apply every method to every tensor that was observed; one pass over the data serves them all.

    Args:
        observers: from :func:`trtd.calibrate.observe.observe`.
        model_digest: of the graph that was run.
        set_digest: of the calibration set.
        samples: items that were run.
        percentile: of the percentile method, in percent.
        threads: that work side by side.
    """
    histograms = {name: observer.histogram() for name, observer in observers.items()}
    with ThreadPoolExecutor(threads, "methods") as pool:
        ranges = list(pool.map(lambda histogram: _tensor_range(histogram, percentile), histograms.values()))
    return CalibrationTable(
        model_digest=model_digest,
        set_digest=set_digest,
        samples=samples,
        percentile=percentile,
        tensors=dict(zip(histograms, ranges, strict=True)),
    )


def _tensor_range(histogram: Histogram, percentile: float) -> TensorRange:
    return TensorRange(
        min=histogram.min,
        max=histogram.max,
        values=histogram.values,
        bin_width=histogram.bin_width,
        first_bin=histogram.first_bin,
        counts=tuple(int(count) for count in histogram.counts),
        amax={method: amax_of(histogram, method, percentile) for method in METHODS},
        range={method: range_of(histogram, method, percentile) for method in METHODS},
    )


def _percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    cut = 1 - percentile / 100
    first, counts = histogram.signed()
    negative, positive = counts[:-first] if first else counts[:0], counts[-first:]
    if histogram.min < 0 < histogram.max:
        cut /= 2
    total = float(counts.sum())
    high = _edge_above(positive, cut, total) if histogram.max > 0 else 0
    low = _edge_above(negative[::-1], cut, total) if histogram.min < 0 else 0
    return -low * histogram.bin_width, high * histogram.bin_width


def _edge_above(counts: np.ndarray[tuple[int], np.dtype[np.float64]], cut: float, total: float = 0) -> int:
    """The least number of bins from zero, one or more, beyond which at most the share ``cut`` of all values lies."""
    beyond = (total or float(counts.sum())) * cut
    outer = np.cumsum(counts[::-1])  # values in the outermost 1, 2, … bins
    return max(1, len(counts) - int(np.searchsorted(outer, beyond, side="right")))


def with_percentile(table: CalibrationTable, percentile: float) -> CalibrationTable:
    """The same table with another share kept by the percentile method; from the histograms, without a new pass."""
    if percentile == table.percentile:
        return table
    tensors = {}
    for name, tensor in table.tensors.items():
        if not tensor.values:  # its range was given, nobody looked at the tensor
            tensors[name] = tensor
            continue
        histogram = Histogram.of(tensor)
        amax, limits = amax_of(histogram, "percentile", percentile), range_of(histogram, "percentile", percentile)
        tensors[name] = tensor.model_copy(
            update={"amax": tensor.amax | {"percentile": amax}, "range": tensor.range | {"percentile": limits}}
        )
    return table.model_copy(update={"percentile": percentile, "tensors": tensors})
