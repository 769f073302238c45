"""``trtd resume``: the daemon builds a paused spec again."""

from __future__ import annotations

import argparse

from trtd.cli.asking import add_name, tell

EXAMPLE = "  trtd resume ppocr-det --registry registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    return tell("resume", args)
