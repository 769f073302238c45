"""The data behind the charts of the HTML report: small enough to travel in the page, and standard JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from trtd.calibrate.table import METHODS, CalibrationTable, Method, TensorRange
from trtd.ui.literal import visible
from trtd.ui.machine import plain
from trtd.verify.report import Latency, OutputErrors, Report

MAX_BINS = 256
MIN_BINS = 48
BIN_BUDGET = 120_000  # of all tensors together: keeps the page of a very large model under a few MB
SPARK_BINS = 40
SPARK_HEIGHT = 20


def chart_data(
    report: Report, table: CalibrationTable | None, method: Method | None, activation: str
) -> dict[str, Any]:
    """Everything that the page's script draws.

    Returns:
        ``latency``: per series its samples in ms, p50 and p99, or ``None`` if nothing was timed; ``errors``: per output
        its edges and counts; ``tensors``: per tensor a histogram and the bounds of each method; ``method``,
        ``activation``: the chosen ones.
    """
    ranges = table.tensors if table else {}
    bins = min(MAX_BINS, max(MIN_BINS, BIN_BUDGET // max(len(ranges), 1)))
    return {
        "latency": _latency(report),
        "errors": [_errors(name, errors) for name, errors in report.output_errors.items()],
        "tensors": [_tensor(name, tensor, bins) for name, tensor in ranges.items()],
        "methods": list(METHODS),
        "method": method,
        "activation": activation,
    }


def _latency(report: Report) -> dict[str, Any] | None:
    engine, fp32 = report.engine_latency, report.fp32_latency
    if report.device_times is not None:
        engine, fp32 = report.device_times.engine, report.device_times.fp32
    return None if engine is None or fp32 is None else {"engine": _runs(engine), "fp32": _runs(fp32)}


def script_json(data: object) -> str:
    r"""JSON that can stand inside ``<script>``: ``<``, ``>`` and ``&`` are written ``\u003c`` and so on."""
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def coarsen(counts: Sequence[int], max_bins: int) -> tuple[int, int, tuple[int, ...]]:
    """Drop empty bins at both ends and merge neighbours until at most ``max_bins`` are left.

    Returns:
        index of the first bin kept, how many bins were merged into one, the merged counts (their sum is unchanged).
    """
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return 0, 1, ()
    kept = counts[filled[0] : filled[-1] + 1]
    factor = math.ceil(len(kept) / max_bins)
    return filled[0], factor, tuple(sum(kept[start : start + factor]) for start in range(0, len(kept), factor))


def clipped_shares(tensor: TensorRange, bounds: Iterable[tuple[float, float]]) -> list[float]:
    """Share of the observed values outside each (low, high); bins that a bound cuts count in proportion."""
    below = [0, *accumulate(tensor.counts)]
    total = below[-1]

    def rank(value: float) -> float:
        position = value / tensor.bin_width - tensor.first_bin
        whole = min(max(math.floor(position), 0), len(tensor.counts))
        inside = tensor.counts[whole] * min(max(position - whole, 0.0), 1.0) if whole < len(tensor.counts) else 0.0
        return below[whole] + inside

    def outside(low: float, high: float) -> float:
        under = rank(low) if low > tensor.min else 0
        over = total - rank(high) if high < tensor.max else 0
        return (under + over) / total if total else 0.0

    return [outside(low, high) for low, high in bounds]


def method_bounds(tensor: TensorRange, activation: str) -> dict[Method, tuple[float, float]]:
    """Per method the (low, high) that stay representable: symmetric for int8 activations, affine for uint8."""
    if activation == "int8":
        return {method: (-amax, amax) for method, amax in tensor.amax.items()}
    return tensor.range


def sparkline(tensor: TensorRange) -> str:
    """The histogram on a log scale as the path of a small SVG, ``SPARK_BINS`` wide and ``SPARK_HEIGHT`` high."""
    _, _, counts = coarsen(tensor.counts, SPARK_BINS)
    top = math.log1p(max(counts, default=0)) or 1.0
    heights = [SPARK_HEIGHT - round(SPARK_HEIGHT * math.log1p(count) / top) for count in counts]
    return f"M0 {SPARK_HEIGHT}" + "".join(f"V{height}h1" for height in heights) + f"V{SPARK_HEIGHT}z"


def _runs(latency: Latency) -> dict[str, Any]:
    samples = sorted(sample for sample in latency.samples_ms if math.isfinite(sample))
    return {"samples": [round(s, 6) for s in samples], "p50": _finite(latency.p50_ms), "p99": _finite(latency.p99_ms)}


def _errors(name: str, errors: OutputErrors) -> dict[str, Any]:
    """An output with edges that are not finite cannot be drawn; it stays in the list without bins, to say so."""
    drawable = len(errors.edges) == len(errors.counts) + 1 and all(map(math.isfinite, errors.edges))
    edges, counts = (errors.edges, errors.counts) if drawable else ((), ())
    return {"name": visible(name), "edges": list(edges), "counts": list(counts)}


def _tensor(name: str, tensor: TensorRange, bins: int) -> dict[str, Any]:
    start, factor, counts = coarsen(tensor.counts, bins)
    drawn: dict[str, Any] = {
        "name": visible(name),
        "start": _finite((tensor.first_bin + start) * tensor.bin_width),
        "width": _finite(factor * tensor.bin_width),
        "counts": list(counts),
    }
    for activation in ("uint8", "int8"):
        bounds = method_bounds(tensor, activation)
        shares = clipped_shares(tensor, bounds.values())
        drawn[activation] = {
            method: [_finite(low), _finite(high), _finite(float(f"{clipped:.3g}"))]
            for (method, (low, high)), clipped in zip(bounds.items(), shares, strict=True)
        }
    return drawn


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
