"""``trtd gc``: remove what retention does not keep."""

from __future__ import annotations

import argparse
import sys

from trtd.cli.common import add_registry, find_registry

EXAMPLE = "  trtd gc --registry registry --dry-run\n  trtd gc --registry registry --keep 2 --unused-days 7"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", type=int, metavar="N", help="versions to keep; default: publish.keep of each spec")
    parser.add_argument(
        "--unused-days", type=float, default=30.0, metavar="D", help="drop stored stage outputs unused for D days (30)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.registry.retention import gc
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    freed = gc(find_registry(args.registry), keep=args.keep, unused_days=args.unused_days, dry_run=args.dry_run)
    if args.json:
        emit("gc", {"bytes": freed.bytes, **freed.model_dump()})
        return 0
    screen = Screen(sys.stdout)
    for item in freed.items:
        screen.line(f"{item.kind} {item.name} ({item.bytes / 1e6:.1f} MB)")
    screen.line(f"{'would free' if freed.dry_run else 'freed'} {freed.bytes / 1e6:.1f} MB")
    return 0
