"""``trtd retry``: the daemon tries a spec again now: after a failure, or to approve a rebuild."""

from __future__ import annotations

import argparse

from trtd.cli.asking import add_name, tell

EXAMPLE = "  trtd retry ppocr-det --registry registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    return tell("retry", args)
