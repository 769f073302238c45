"""``trtd verify``: judge a published engine again."""

from __future__ import annotations

import argparse
import sys

from trtd.cli.common import add_engine, add_registry, add_roots, add_threads, find_registry, parse_engine
from trtd.errors import EXIT_GATE, EXIT_OK

EXAMPLE = "  trtd verify digits-int8 --registry registry\n  trtd verify digits-int8@1 --registry registry --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import Request, verify_published
    from trtd.ui.machine import emit
    from trtd.ui.progress import StageProgress
    from trtd.ui.text import Screen

    registry = find_registry(args.registry)
    name, version = parse_engine(args.engine)
    with StageProgress(sys.stderr, enabled=not args.json) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, listener=listener)
        report = verify_published(registry, name, version, request)
    if args.json:
        emit("verify", {"passed": report.passed, "report": report})
    else:
        screen = Screen(sys.stdout)
        screen.results([report])
        screen.line()
        screen.gates(report)
    return EXIT_OK if report.passed else EXIT_GATE
