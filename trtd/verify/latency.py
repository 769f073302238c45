"""Latency of an engine and of FP32, side by side: interleaved, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from trtd.engines.protocol import Arrays, Runner
from trtd.verify.report import Latency

WARM_UP_RUNS = 3
# A model that takes seconds a run need not be run fifty times to know.
LIMIT_S = 120.0


def side_by_side(
    engine: Runner,
    fp32: Runner,
    feeds: Sequence[Arrays],
    *,
    runs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Latency, Latency]:
    """Time single runs of both, alternating which goes first.

    Args:
        feeds: real inputs, used in turn; the leading dimension of the first input that has one is the batch.
        runs: timed runs of each; fewer, but at least 5, if they would take longer than two minutes together.

    Returns:
        Latency of the engine, latency of FP32.
    """
    batch = next((len(array) for array in feeds[0].values() if array.ndim), 1)
    for _ in range(WARM_UP_RUNS):
        engine.run(feeds[0])
        fp32.run(feeds[0])
    times: tuple[list[float], list[float]] = ([], [])
    start = time.monotonic()
    for i in range(runs):
        feed = feeds[i % len(feeds)]
        pairs = [(engine, times[0]), (fp32, times[1])]
        for runner, taken in pairs if i % 2 == 0 else reversed(pairs):
            began = time.perf_counter()
            runner.run(feed)
            taken.append((time.perf_counter() - began) * 1e3)
        progress(i + 1, runs)
        if i >= 4 and time.monotonic() - start > LIMIT_S:
            break
    return _latency(times[0], batch), _latency(times[1], batch)


def _latency(times_ms: Sequence[float], batch: int) -> Latency:
    p50, p99 = (float(v) for v in np.percentile(times_ms, [50, 99]))
    mean = float(np.mean(times_ms))
    return Latency(
        runs=len(times_ms),
        batch=batch,
        p50_ms=p50,
        p99_ms=p99,
        mean_ms=mean,
        items_per_s=batch * 1e3 / mean,
        samples_ms=tuple(round(t, 4) for t in times_ms),
    )
