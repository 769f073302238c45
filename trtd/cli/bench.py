"""``trtd bench``: a published engine beside FP32."""

from __future__ import annotations

import argparse
import sys

from trtd.cli.options import (
    add_engine,
    add_registry,
    add_roots,
    add_threads,
    find_registry,
    parse_engine,
    whole_number,
)

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
    from trtd.ui.figures import millis, ratio
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
    for label, latency in (("engine", timed.engine), ("FP32", timed.fp32)):
        percentiles = f"p50 {millis(latency.p50_ms):>7} ms   p99 {millis(latency.p99_ms):>7} ms"
        screen.line(f"  {label:<7} {percentiles}   {latency.items_per_s:>10,.1f} items/s")
    screen.line(f"  speedup {ratio(timed.speedup)}")
    return 0
