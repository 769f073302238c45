"""``trtd build``: the main job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.cli.common import add_registry, add_roots, add_threads, find_registry
from trtd.errors import TrtdError

if TYPE_CHECKING:
    from trtd.pipeline.build import Outcome, Request

EXAMPLE = "  trtd build specs/digits.toml specs/ppocr-det.toml --registry registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="spec files")
    parser.add_argument("--force", action="store_true", help="build and publish even what is up to date")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import Request
    from trtd.ui.progress import StageProgress

    registry = find_registry(args.registry, args.specs[0])
    with StageProgress(sys.stderr, enabled=not (args.json or args.quiet)) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, args.force, listener)
        outcomes, errors = _build_all(args.specs, request)
    errors += [o.error for o in outcomes if o.error is not None]
    if args.json:
        _emit(outcomes, errors)
    else:
        _show(outcomes, errors)
    return max((error.exit_code for error in errors), default=0)


def _build_all(specs: list[Path], request: Request) -> tuple[list[Outcome], list[TrtdError]]:
    """Build spec after spec; one that is wrong does not keep the others from being built."""
    from trtd.pipeline.build import build

    outcomes: list[Outcome] = []
    errors: list[TrtdError] = []
    for spec in specs:
        try:
            outcomes += build(spec, request)
        except TrtdError as error:
            errors.append(error)
    return outcomes, errors


def _emit(outcomes: list[Outcome], errors: list[TrtdError]) -> None:
    from trtd.ui.machine import emit, emit_error

    data = [_describe(outcome) for outcome in outcomes]
    if errors:
        emit_error("build", max(errors, key=lambda error: error.exit_code), data=data)
    else:
        emit("build", data)


def _describe(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "precision": outcome.precision,
        "version": outcome.version,
        "built": outcome.built,
        "published": outcome.version is not None,
        "record": outcome.record,
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "report": outcome.report,
        "error": outcome.error.to_json() if outcome.error else None,
    }


def _show(outcomes: list[Outcome], errors: list[TrtdError]) -> None:
    from trtd.ui.text import Screen

    out, err = Screen(sys.stdout), Screen(sys.stderr)
    reports = [o.report for o in outcomes if o.report is not None]
    if reports:
        out.results(reports)
        out.line()
    for outcome in outcomes:
        if outcome.version is not None and outcome.record is not None:
            state = "published" if outcome.built else "up to date"
            out.line(f"{outcome.name}@{outcome.version} {state}; report: {outcome.record / 'report.html'}")
    for error in errors:
        err.error(error)
