"""``trtd cancel``: the daemon stops the build of a spec, or takes it out of the queue, until its files change."""

from __future__ import annotations

import argparse

from trtd.cli.asking import add_name, tell

EXAMPLE = "  trtd cancel ppocr-det --registry registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    return tell("cancel", args)
