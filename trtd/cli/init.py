"""``trtd init``: make a registry."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

EXAMPLE = """\
  trtd init registry
  trtd build specs/digits.toml --registry registry"""

SCHEMA_FILE = "spec.schema.json"
EXAMPLE_FILE = "example.toml.txt"
_EXAMPLE_SPEC = """\
#:schema ./spec.schema.json
# Copy this to NAME.toml, change the paths, then:  trtd check specs/NAME.toml  and  trtd build specs/NAME.toml

[model]
path = "../models/NAME"            # Paddle (.json or .pdmodel with .pdiparams) or ONNX; or: registry = "NAME"

[engine]
target = "onnxruntime-cpu"
precision = "int8"                 # fp32 | fp16 | int8, or a list of them

[calibration]
data = "../data/*.png"             # real inputs, some hundred: a folder, a glob, .npy or .npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder to make the registry in; may exist")


def run(args: argparse.Namespace) -> int:
    from trtd.registry.layout import Registry
    from trtd.spec.json_schema import committed
    from trtd.store.atomic import write_file
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    registry = Registry(Path(os.path.realpath(args.directory)))
    registry.init()
    write_file(registry.specs / SCHEMA_FILE, committed().encode())
    write_file(registry.specs / EXAMPLE_FILE, _EXAMPLE_SPEC.encode())
    if args.json:
        emit("init", {"registry": registry.root})
        return 0
    screen = Screen(sys.stdout)
    screen.line(f"{args.directory} is a registry now.")
    screen.line(f"  specs/    put specs here; {EXAMPLE_FILE} is one to copy, {SCHEMA_FILE} helps editors")
    screen.line("  models/   source models, as NAME/VERSION/")
    screen.line("  engines/  what is published: a Triton model repository")
    screen.line("  records/  manifest, report and calibration table of every version")
    screen.line(f"next: trtd build SPEC --registry {args.directory}")
    screen.line(f"or:   trtd run --registry {args.directory}, which builds what is put into specs/")
    return 0
