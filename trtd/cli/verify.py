"""``trtd verify``: judge a published engine again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trtd.cli.options import add_engine, add_registry, add_roots, add_threads, find_registry, parse_engine
from trtd.errors import EXIT_OK, EnvironmentMissing, GateMissed, TrtdError

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
    error = _error(report)
    if args.json:
        data = {"passed": report.passed, "report": report}
        if error is None:
            emit("verify", data)
        else:
            emit_error("verify", error, data=data)
    else:
        screen = Screen(sys.stdout)
        screen.results([report])
        screen.line()
        screen.gates(report)
        if error is not None:
            sys.stdout.flush()
            Screen(sys.stderr).error(error)
    return EXIT_OK if error is None else error.exit_code


def _error(report: Report) -> TrtdError | None:
    """What keeps the engine from being a verified one."""
    if not report.passed:
        return _missed(report)
    if report.proof == "emulated":
        what = "its graph passed on the CPU in its place; the engine itself still has to run on its GPU"
        return EnvironmentMissing(what, where=report.name, hint="run the same command on a machine with such a GPU")
    return None


def _missed(report: Report) -> GateMissed:
    names = ", ".join(f"{gate.name} {gate.output}".strip() for gate in report.missed)
    advice = next((gate.advice for gate in report.missed if gate.advice), "")
    return GateMissed(f"published, and now misses: {names}", where=report.name, hint=advice)
