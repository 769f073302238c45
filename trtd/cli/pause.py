"""``trtd pause``: the daemon builds a spec no more; a build that runs goes on, and what is published stays."""

from __future__ import annotations

import argparse

from trtd.cli.asking import add_name, tell

EXAMPLE = "  trtd pause ppocr-det --registry registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    return tell("pause", args)
