"""``trtd gc``: remove what retention does not keep."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.cli.options import add_registry, days, find_registry, whole_number
from trtd.errors import TrtdError

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

EXAMPLE = "  trtd gc --registry registry --dry-run\n  trtd gc --registry registry --keep 2 --unused-days 7"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", type=whole_number, metavar="N", help="versions to keep; default: publish.keep of each spec"
    )
    parser.add_argument(
        "--unused-days", type=days, default=30.0, metavar="D", help="drop stored stage outputs unused for D days (30)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.registry.retention import gc
    from trtd.ui.figures import byte_size
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    registry = find_registry(args.registry)
    keep = args.keep or _keep_of_specs(registry)
    freed = gc(registry, keep=keep, unused_days=args.unused_days, dry_run=args.dry_run)
    if args.json:
        emit("gc", {"bytes": freed.bytes, **freed.model_dump()})
        return 0
    screen = Screen(sys.stdout)
    for item in freed.items:
        screen.line(f"{item.kind} {item.name} ({byte_size(item.bytes)})")
    screen.line(f"{'would free' if freed.dry_run else 'freed'} {byte_size(freed.bytes)}")
    return 0


def _keep_of_specs(registry: Registry) -> dict[str, int]:
    """``publish.keep`` as the specs say it now; where a spec is gone, that of the live version holds."""
    from trtd.registry.lookup import current
    from trtd.spec.load import load_spec

    keep = {}
    for name in registry.names():
        with suppress(TrtdError):
            manifest, _ = current(registry, name)
            for spec in load_spec(Path(manifest.spec_file)).per_target():
                if name in spec.engine_names.values():
                    keep[name] = spec.publish.keep
    return keep
