"""Latency is measured side by side: a noisy machine must disturb engine and FP32 alike."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tests.verify.runners import StandInRunner
from trtd.engines.protocol import Arrays
from trtd.verify import latency
from trtd.verify.latency import WARM_UP_RUNS, on_device, side_by_side
from trtd.verify.report import Latency

FEEDS = [{"x": np.full((4, 2), n, np.float32)} for n in range(3)]


def timed(runs: int, **options: Any) -> tuple[Latency, Latency, list[tuple[str, Any]]]:
    diary: list[tuple[str, Any]] = []
    runners = {name: StandInRunner(lambda feeds: {}, name=name, diary=diary) for name in ("engine", "fp32")}
    found = side_by_side(runners, FEEDS, runs=runs, **options)
    return found["engine"], found["fp32"], diary


def test_runs_alternate_and_take_turns_in_going_first() -> None:
    """All runs of one and then all of the other would measure how warm the machine was."""
    _, _, diary = timed(4)
    measured = [name for name, _ in diary[2 * WARM_UP_RUNS :]]
    assert measured == ["engine", "fp32", "fp32", "engine"] * 2


def test_any_number_of_engines_take_turns() -> None:
    """INT8 beside FP32 and FP16: whoever always goes last would find the caches of the one before."""
    diary: list[tuple[str, Any]] = []
    runners = {name: StandInRunner(lambda feeds: {}, name=name, diary=diary) for name in "abc"}
    found = side_by_side(runners, FEEDS, runs=3)
    assert [name for name, _ in diary[3 * WARM_UP_RUNS :]] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [latency.runs for latency in found.values()] == [3, 3, 3]


class StandInDevice:
    """A runner with a clock of its own, which a GPU would be."""

    def __init__(self, name: str, ms: float, diary: list[str]) -> None:
        self.name, self.ms, self.diary = name, ms, diary

    def time_on_device(self, feeds: Arrays, runs: int) -> list[float]:
        self.diary += [self.name]
        return [self.ms] * runs


def test_on_a_device_engines_take_turns_in_blocks() -> None:
    """A GPU that gets warm, or lowers its clock, would punish whoever is measured last."""
    diary: list[str] = []
    timers = {"engine": StandInDevice("engine", 0.5, diary), "fp32": StandInDevice("fp32", 2.0, diary)}
    found = on_device(timers, FEEDS, runs=25)
    assert diary == ["engine", "fp32"] * 3
    assert [(latency.p50_ms, latency.runs) for latency in found.values()] == [(0.5, 30), (2.0, 30)]
    assert found["engine"].items_per_s == pytest.approx(4 / 0.5e-3)


def test_both_see_the_same_inputs_in_turn() -> None:
    """Inputs of different content take different time, a detector's for one."""
    _, _, diary = timed(5)
    pairs = [diary[i : i + 2] for i in range(2 * WARM_UP_RUNS, len(diary), 2)]
    assert [{value for _, value in pair} for pair in pairs] == [{0}, {1}, {2}, {0}, {1}]


def test_both_are_warmed_up_and_that_does_not_count() -> None:
    """The first runs allocate memory."""
    engine, fp32, diary = timed(6)
    assert [name for name, _ in diary[: 2 * WARM_UP_RUNS]] == ["engine", "fp32"] * WARM_UP_RUNS
    assert len(engine.samples_ms) == len(fp32.samples_ms) == engine.runs == fp32.runs == 6
    assert len(diary) == 2 * (WARM_UP_RUNS + 6)


def test_numbers_fit_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that tests set: percentiles, mean and throughput, in their units."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(time, "perf_counter", lambda: (n := next(ticks)) // 2 + (n % 2) * 1e-3 * (n // 2 + 1))
    engine, fp32, _ = timed(4)  # pair number n takes n + 1 ms: engine 1, 4, 5, 8 and fp32 2, 3, 6, 7
    assert engine.samples_ms == pytest.approx((1, 4, 5, 8))
    assert fp32.samples_ms == pytest.approx((2, 3, 6, 7))
    assert [engine.p50_ms, engine.mean_ms] == pytest.approx([4.5, 4.5])
    assert engine.p50_ms < engine.p99_ms <= 8
    assert engine.batch == 4
    assert engine.items_per_s == pytest.approx(4 / 4.5e-3)


def test_slow_models_are_run_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty runs of a model that takes minutes would outlive the deadline; five are enough to know."""
    monkeypatch.setattr(latency, "LIMIT_S", 0.0)
    engine, fp32, _ = timed(50)
    assert engine.runs == fp32.runs == 5
    assert timed(2)[0].runs == 2


def test_progress_is_told_after_each_pair() -> None:
    """The only sign of life during the longest part of verification."""
    told: list[tuple[int, int]] = []
    timed(3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_scalar_input_has_no_batch() -> None:
    """The first input with a leading dimension says how many items run at once."""
    runner = StandInRunner(lambda feeds: {})
    feeds = [{"k": np.array(1.0), "x": np.zeros((3, 2))}]
    assert side_by_side({"engine": runner}, feeds, runs=1)["engine"].batch == 3
    assert side_by_side({"engine": runner}, [{"k": np.array(1.0)}], runs=1)["engine"].batch == 1
