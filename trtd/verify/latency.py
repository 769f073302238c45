"""Latency of engines side by side: interleaved, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from trtd.engines.protocol import Arrays, Runner
from trtd.verify.report import Latency

WARM_UP_RUNS = 3
# A model that takes seconds a run need not be run fifty times to know.
LIMIT_S = 120.0
# On a device, single runs are too short to change the engine after each.
DEVICE_RUNS = 10

Progress = Callable[[int, int], None]


class DeviceTimer(Protocol):
    """A runner that can tell how long a run takes on its device, without the way there and back."""

    def time_on_device(self, feeds: Arrays, runs: int) -> list[float]: ...


def side_by_side(
    runners: Mapping[str, Runner],
    feeds: Sequence[Arrays],
    *,
    runs: int,
    progress: Progress = lambda done, total: None,
) -> dict[str, Latency]:
    """Time single runs of each, from host memory to host memory, taking turns at being first.

    Args:
        feeds: real inputs, used in turn; the leading dimension of the first input that has one is the batch.
        runs: timed runs of each; fewer, but at least 5, if they would take longer than two minutes together.

    Returns:
        Latency by the names of the runners.
    """
    for _ in range(WARM_UP_RUNS):
        for runner in runners.values():
            runner.run(feeds[0])
    taken: dict[str, list[float]] = {name: [] for name in runners}
    order = list(runners.items())
    start = time.monotonic()
    for i in range(runs):
        feed = feeds[i % len(feeds)]
        for name, runner in order[i % len(order) :] + order[: i % len(order)]:
            began = time.perf_counter()
            runner.run(feed)
            taken[name].append((time.perf_counter() - began) * 1e3)
        progress(i + 1, runs)
        if i >= 4 and time.monotonic() - start > LIMIT_S:
            break
    return {name: latency(times, batch_of(feeds)) for name, times in taken.items()}


def on_device(
    timers: Mapping[str, DeviceTimer],
    feeds: Sequence[Arrays],
    *,
    runs: int,
    progress: Progress = lambda done, total: None,
) -> dict[str, Latency]:
    """Time runs on the device alone, a few of each in turn; arguments as of :func:`side_by_side`."""
    taken: dict[str, list[float]] = {name: [] for name in timers}
    rounds = -(-runs // DEVICE_RUNS)
    for i in range(rounds):
        for name, timer in timers.items():
            taken[name] += timer.time_on_device(feeds[i % len(feeds)], DEVICE_RUNS)
        progress(i + 1, rounds)
    return {name: latency(times, batch_of(feeds)) for name, times in taken.items()}


def batch_of(feeds: Sequence[Arrays]) -> int:
    """Items of one run."""
    return next((len(array) for array in feeds[0].values() if array.ndim), 1)


def latency(times_ms: Sequence[float], batch: int) -> Latency:
    """What single runs of ``batch`` items come to."""
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
