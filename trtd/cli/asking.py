"""What ``pause``, ``resume``, ``retry`` and ``cancel`` have in common: one command to the daemon about one spec."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trtd.cli.onlooker import look_up_registry
from trtd.cli.options import add_registry

if TYPE_CHECKING:
    from trtd.daemon.control_line import ControlCommand


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a spec, by its name, its file or one of its engines")
    add_registry(parser)


def tell(command: ControlCommand, args: argparse.Namespace) -> int:
    """Give the daemon the command, and print what it says to that."""
    from trtd.daemon.client import ask
    from trtd.ui.literal import visible
    from trtd.ui.machine import emit
    from trtd.ui.plain import write_lines

    text = ask(look_up_registry(args.registry), command, args.name)
    if args.json:
        emit(command, {"name": args.name, "text": text})
    else:
        write_lines([visible(text)], sys.stdout)
    return 0
