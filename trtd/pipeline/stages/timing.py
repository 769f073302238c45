"""Timing engines of one target side by side, on the device as well where it has a clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trtd.engines.protocol import Arrays, Runner
from trtd.engines.tensorrt.run import TensorRTRunner
from trtd.pipeline.progress import Progress
from trtd.verify.gates import Speed
from trtd.verify.latency import on_device, side_by_side
from trtd.verify.report import DeviceTimes, Latency


@dataclass(frozen=True)
class Timings:
    """Latency by runner, from host to host and, where there is a GPU, on it alone."""

    host: Mapping[str, Latency] = field(default_factory=dict)
    device: DeviceTimes | None = None

    def over(self, baseline: str) -> float | None:
        """How many times as fast as ``baseline`` the engine is; ``None`` if that was not timed."""
        times: Mapping[str, Latency | None] = self.host
        if self.device is not None:
            times = {"engine": self.device.engine, "fp32": self.device.fp32, "fp16": self.device.fp16}
        engine, other = times.get("engine"), times.get(baseline)
        return None if engine is None or other is None else other.p50_ms / engine.p50_ms

    def speed(self, *, native_fp16: bool) -> Speed | None:
        over_fp32 = self.over("fp32")
        return None if over_fp32 is None else Speed(over_fp32, self.over("fp16"), native_fp16)


def time_all(runners: Mapping[str, Runner], feeds: Sequence[Arrays], runs: int, progress: Progress) -> Timings:
    """Time every runner."""
    host = side_by_side(runners, feeds, runs=runs, progress=lambda done, total: progress(done, total, "latency"))
    on_gpu = {name: runner for name, runner in runners.items() if isinstance(runner, TensorRTRunner)}
    if not on_gpu:
        return Timings(host)
    times = on_device(on_gpu, feeds, runs=runs, progress=lambda done, total: progress(done, total, "device latency"))
    gpu = on_gpu["engine"].gpu
    return Timings(
        host,
        DeviceTimes(
            gpu=f"{gpu.name} ({gpu.capability})",
            engine=times["engine"],
            fp32=times["fp32"],
            fp16=times.get("fp16"),
            memory_bytes={name: runner.memory_bytes for name, runner in on_gpu.items()},
        ),
    )
