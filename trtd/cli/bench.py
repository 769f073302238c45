"""``trtd bench``: a published engine beside FP32."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trtd.cli.options import (
    add_engine,
    add_registry,
    add_roots,
    add_threads,
    find_registry,
    parse_engine,
    whole_number,
)

if TYPE_CHECKING:
    from trtd.ui.text import Screen
    from trtd.verify.report import Latency

EXAMPLE = "  trtd bench digits-int8 --registry registry --runs 200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    parser.add_argument("--runs", type=whole_number, default=200, metavar="N", help="timed runs of each (200)")
    parser.add_argument(
        "--batch", type=whole_number, metavar="N", help="items a run; default: that of the spec's opt shape"
    )
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import Request
    from trtd.pipeline.published import bench_published
    from trtd.ui.figures import ratio
    from trtd.ui.machine import emit
    from trtd.ui.progress import StageProgress
    from trtd.ui.text import Screen

    registry = find_registry(args.registry)
    name, version = parse_engine(args.engine)
    with StageProgress(sys.stderr, enabled=not args.json) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, listener=listener)
        timed = bench_published(registry, name, version, request, runs=args.runs, batch=args.batch)
    if args.json:
        emit("bench", {"speedup": timed.speedup, **timed.model_dump()})
        return 0
    screen = Screen(sys.stdout)
    screen.line(f"{name}: {timed.engine.runs} runs each, batch {timed.engine.batch}, interleaved", "bold")
    _show_latencies(screen, timed.engine, timed.fp32)
    if timed.device_times is not None:
        screen.line(f"on {timed.device_times.gpu} alone:", "bold")
        _show_latencies(screen, timed.device_times.engine, timed.device_times.fp32)
    screen.line(f"  speedup {ratio(timed.speedup)}")
    return 0


def _show_latencies(screen: Screen, engine: Latency, fp32: Latency) -> None:
    from trtd.ui.figures import millis

    for label, latency in (("engine", engine), ("FP32", fp32)):
        percentiles = f"p50 {millis(latency.p50_ms):>7} ms   p99 {millis(latency.p99_ms):>7} ms"
        screen.line(f"  {label:<7} {percentiles}   {latency.items_per_s:>10,.1f} items/s")
