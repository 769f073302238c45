"""``trtd calibrate``: the calibration table alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trtd.cli.options import add_registry, add_roots, add_threads, find_registry

EXAMPLE = "  trtd calibrate specs/ppocr-det.toml --registry registry --out ppocr-det.calibration.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="spec file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="copy the table there")
    parser.add_argument("--force", action="store_true", help="calibrate even if a table is stored")
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.calibrate.table import METHODS
    from trtd.pipeline.build import Request, calibrate
    from trtd.store.atomic import write_file
    from trtd.ui.machine import emit
    from trtd.ui.progress import StageProgress
    from trtd.ui.text import Screen

    registry = find_registry(args.registry, args.spec)
    with StageProgress(sys.stderr, enabled=not args.json) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, args.force, listener)
        path, table = calibrate(args.spec, request)
    if args.out:
        write_file(args.out.absolute(), path.read_bytes())
    facts = {"table": args.out or path, "tensors": len(table.tensors), "samples": table.samples, "methods": METHODS}
    if args.json:
        emit("calibrate", facts | {"set_digest": table.set_digest, "model_digest": table.model_digest})
    else:
        screen = Screen(sys.stdout)
        screen.line(f"{len(table.tensors)} tensors over {table.samples} items; ranges by {', '.join(METHODS)}")
        screen.line(f"table: {args.out or path}")
    return 0
