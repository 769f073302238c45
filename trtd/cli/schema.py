"""``trtd schema``: the JSON Schema of specs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = """\
  trtd schema --write specs/spec.schema.json
  # then, as the first line of a spec:  #:schema ./spec.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it there; default: print it")


def run(args: argparse.Namespace) -> int:
    from trtd.spec.json_schema import render, schema
    from trtd.store.atomic import write_file
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    if args.write is not None:
        write_file(args.write.absolute(), render().encode())
    if args.json:
        emit("schema", {"schema": schema(), "written": args.write})
    elif args.write is None:
        sys.stdout.write(render())
    else:
        Screen(sys.stdout).line(f"wrote {args.write}")
    return 0
