"""``trtd rollback``: an older engine, published again as a new version."""

from __future__ import annotations

import argparse
import sys

from trtd.cli.options import add_registry, find_registry, parse_engine, whole_number
from trtd.errors import UsageError

EXAMPLE = """\
  trtd rollback digits-int8 --registry registry      # to the engine before
  trtd rollback digits-int8 2 --registry registry    # to version 2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="NAME", help="engine in the registry")
    parser.add_argument(
        "version", nargs="?", type=whole_number, metavar="N", help="version to go back to; default: the one before"
    )
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.registry.manifest import read_manifest
    from trtd.registry.rollback import rollback
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    registry = find_registry(args.registry)
    name, at = parse_engine(args.engine)
    if at is not None and args.version is not None:
        raise UsageError("the version is given twice", hint=f"trtd rollback {name} {args.version}")
    new = rollback(registry, name, args.version or at)
    source = read_manifest(registry, name, new).rolled_back_from
    if args.json:
        emit("rollback", {"name": name, "version": new, "rolled_back_from": source})
    else:
        until = "until its spec, model, data or tools change"
        Screen(sys.stdout).line(f"{name}@{new} is live: version {source} once more, {until}")
    return 0
