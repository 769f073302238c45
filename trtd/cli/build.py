"""``trtd build``: the main job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.cli.options import add_registry, add_roots, add_threads, distinct_specs, find_registry
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

    registry, specs = find_registry(args.registry, args.specs[0]), distinct_specs(args.specs)
    with StageProgress(sys.stderr, enabled=not (args.json or args.quiet)) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, args.force, listener)
        built = [(spec, _build(spec, request)) for spec in specs]
    errors = [error for _, found in built for error in _errors(found)]
    if args.json:
        _emit(built, errors)
    else:
        _show([outcome for _, found in built if isinstance(found, list) for outcome in found], errors)
    return max((error.exit_code for error in errors), default=0)


def _build(spec: Path, request: Request) -> list[Outcome] | TrtdError:
    """What became of each engine of a spec, or why none could be begun. The specs after it are built in any case."""
    from trtd.pipeline.build import build

    try:
        return build(spec, request)
    except TrtdError as error:
        return error


def _errors(found: list[Outcome] | TrtdError) -> list[TrtdError]:
    if isinstance(found, TrtdError):
        return [found]
    return [outcome.error for outcome in found if outcome.error is not None]


def _emit(built: list[tuple[Path, list[Outcome] | TrtdError]], errors: list[TrtdError]) -> None:
    from trtd.ui.machine import emit, emit_error

    data: list[dict[str, Any]] = []
    for spec, found in built:
        if isinstance(found, TrtdError):
            data.append({"spec": spec, "published": False, "error": found.to_json()})
        else:
            data += [{"spec": spec, **_describe(outcome)} for outcome in found]
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
