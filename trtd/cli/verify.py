"""``trtd verify``: judge a published engine again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trtd.cli.options import add_engine, add_registry, add_roots, add_threads, find_registry, parse_engine
from trtd.errors import EXIT_GATE, EXIT_OK, GateMissed

if TYPE_CHECKING:
    from trtd.verify.report import Report

EXAMPLE = "  trtd verify digits-int8 --registry registry\n  trtd verify digits-int8@1 --registry registry --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import Request
    from trtd.pipeline.published import verify_published
    from trtd.ui.machine import emit, emit_error
    from trtd.ui.progress import StageProgress
    from trtd.ui.text import Screen

    registry = find_registry(args.registry)
    name, version = parse_engine(args.engine)
    with StageProgress(sys.stderr, enabled=not args.json) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, listener=listener)
        report = verify_published(registry, name, version, request)
    if args.json:
        data = {"passed": report.passed, "report": report}
        if report.passed:
            emit("verify", data)
        else:
            emit_error("verify", _missed(report), data=data)
    else:
        screen = Screen(sys.stdout)
        screen.results([report])
        screen.line()
        screen.gates(report)
    return EXIT_OK if report.passed else EXIT_GATE


def _missed(report: Report) -> GateMissed:
    names = ", ".join(f"{gate.name} {gate.output}".strip() for gate in report.missed)
    advice = next((gate.advice for gate in report.missed if gate.advice), "")
    return GateMissed(f"published, and now misses: {names}", where=report.name, hint=advice)
