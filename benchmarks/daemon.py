"""What the daemon takes while nothing is to do, and how soon it acts."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.fleet import Daemon, furnish, lose_state, running
from trtd.registry.layout import Registry

IDLE, MANY = 1_000, 10_000
IDLE_S = 180.0  # six periods
EDITS = 10
Rows = list[dict[str, Any]]


def figures() -> Rows:
    """One row for each figure, with what was asked of it."""
    with TemporaryDirectory(prefix="trtd-benchmark-") as folder:
        rows = _idle(furnish(Path(folder) / "idle", IDLE))
        registry = furnish(Path(folder) / "many", MANY)
        rows += [_cold(registry, lost=True), _cold(registry, lost=False)]
        return rows + _edits(registry)


def _idle(registry: Registry) -> Rows:
    lose_state(registry)  # the worse case: everything is read, none of it is recalled
    with running(registry) as daemon:
        daemon.until(f"STATUS={IDLE} ready")
        time.sleep(5)
        before_s, start_s = _cpu_s(daemon), time.monotonic()
        time.sleep(IDLE_S)
        share = (_cpu_s(daemon) - before_s) / (time.monotonic() - start_s)
        rss_mb = _rss_bytes(daemon) / 1e6
        started = daemon.started
    what = f"{IDLE:,} specs, idle for {IDLE_S:.0f} s"
    return [
        _row(f"{what}: share of a core, %", round(share * 100, 2), "< 0.3", started),
        _row(f"{what}: RSS, MB", round(rss_mb, 1), "< 60", started),
    ]


def _cold(registry: Registry, *, lost: bool) -> dict[str, Any]:
    if lost:
        lose_state(registry)
    with running(registry) as daemon:
        daemon.until(f"STATUS={MANY} ready")
        took_s = time.perf_counter() - daemon.started_s
        what = "without its state database" if lost else "from its state database"
        return _row(
            f"{MANY:,} specs, nothing to do, {what}: s until all are ready", round(took_s, 2), "< 10", daemon.started
        )


def _edits(registry: Registry) -> Rows:
    times = []
    with running(registry) as daemon:
        daemon.until(f"STATUS={MANY} ready")
        for number in range(EDITS):
            spec = registry.specs / f"m{number:05d}.toml"
            with spec.open("a") as file:
                start_s = time.perf_counter()
                file.write("# edited\n")
            daemon.until(f"STATUS=1 building, {MANY - 1} ready")
            times.append(time.perf_counter() - start_s)
            daemon.until(f"STATUS={MANY} ready")
        started = daemon.started
    what = f"one of {MANY:,} specs edited, {EDITS} times: s until its build is started"
    return [
        _row(f"{what}, median", round(statistics.median(times), 2), "< 1", started),
        _row(f"{what}, longest", round(max(times), 2), "< 1", started),
    ]


def _row(what: str, measured: float, asked: str, builds: int) -> dict[str, Any]:
    return {"what": what, "measured": measured, "asked": asked, "builds": builds}


def _cpu_s(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_bytes(daemon: Daemon) -> int:
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024
