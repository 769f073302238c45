"""``trtd table``: calibration tables, shown, and exchanged with TensorRT's calibration caches."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.cli.options import (
    Once,
    add_registry,
    add_roots,
    add_threads,
    find_registry,
    look_for_registry,
    parse_engine,
)
from trtd.errors import UsageError

if TYPE_CHECKING:
    from trtd.calibrate.table import CalibrationTable

EXAMPLE = """\
  trtd table show ppocr-det --registry registry                        # of a published engine, or of a file
  trtd table export ppocr-det --registry registry --method entropy --tensorrt 8.6.1 --out det.cache
  trtd table import det.cache specs/ppocr-det.toml --registry registry --out det.calibration.json"""

ACTIONS = ("show", "export", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=ACTIONS, help="show a table; write it as a cache of TensorRT; read such a cache"
    )
    parser.add_argument("table", metavar="TABLE", help="a file, or an engine in the registry as NAME[@N]")
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC", help="import: the spec of the model")
    parser.add_argument(
        "--out", type=Path, action=Once, metavar="FILE", help="write it there; export: default: print it"
    )
    parser.add_argument("--method", choices=("minmax", "entropy", "percentile", "mse"), help="export: default: entropy")
    parser.add_argument("--tensorrt", metavar="VERSION", help="export: for which TensorRT, up to 10; default: 8.6.1")
    add_registry(parser)
    add_roots(parser)
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    if (args.action == "import") != (args.spec is not None):
        need = "wants the spec of the model" if args.action == "import" else "takes no spec"
        raise UsageError(
            f"trtd table {args.action} {need}", hint=EXAMPLE.splitlines()[ACTIONS.index(args.action)].strip()
        )
    if args.action == "import":
        return _import(args)
    table = _find(args)
    return _export(args, table) if args.action == "export" else _show(args, table)


def _find(args: argparse.Namespace) -> CalibrationTable:
    from trtd.calibrate.table import read_table
    from trtd.pipeline.contracts import TABLE_FILE
    from trtd.registry.lookup import current

    path = Path(args.table)
    if path.is_file():
        return read_table(path)
    registry = look_for_registry(args.registry)
    if registry is None:
        raise UsageError(f"there is no file {args.table}, and no registry was given", hint="add --registry DIR")
    manifest, _ = current(registry, *parse_engine(args.table))
    record = registry.record(manifest.name, manifest.version) / TABLE_FILE
    if not record.is_file():
        named = f"{manifest.name}@{manifest.version}"
        raise UsageError(f"{named} was built without a calibration table", hint="INT8 engines have one")
    return read_table(record)


def _show(args: argparse.Namespace, table: CalibrationTable) -> int:
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    if args.json:
        tensors = {
            name: {"min": t.min, "max": t.max, "values": t.values, "amax": t.amax, "range": t.range}
            for name, t in table.tensors.items()
        }
        emit("table", table.model_dump(mode="python", exclude={"tensors"}) | {"tensors": tensors})
        return 0
    screen = Screen(sys.stdout)
    screen.calibration(table)
    return 0


def _export(args: argparse.Namespace, table: CalibrationTable) -> int:
    from trtd.calibrate.table import Method
    from trtd.calibrate.tensorrt_cache import ALGORITHMS, scales_of, version_digits, write_cache
    from trtd.store.atomic import write_file
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    method: Method = args.method or "entropy"
    version = version_digits(args.tensorrt or "8.6.1")
    text = write_cache(scales_of(table, method), version=version, algorithm=ALGORITHMS[method])
    if args.out is not None:
        write_file(args.out.absolute(), text.encode())
    if args.json:
        emit("table", {"out": args.out, "method": method, "tensors": len(table.tensors), "text": text})
    elif args.out is None:
        sys.stdout.write(text)
    else:
        Screen(sys.stdout).line(f"wrote {len(table.tensors)} tensors by {method} to {args.out}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from trtd.calibrate.table import write_table
    from trtd.pipeline.build import Request, import_table
    from trtd.ui.machine import emit
    from trtd.ui.progress import StageProgress
    from trtd.ui.text import Screen

    if args.out is None:
        raise UsageError("trtd table import wants a file to write", hint="--out det.calibration.json")
    registry = find_registry(args.registry, args.spec)
    with StageProgress(sys.stderr, enabled=not args.json) as listener:
        request = Request(registry, tuple(args.allow_root), args.threads, listener=listener)
        table = import_table(args.spec, Path(args.table).absolute(), request)
    write_table(table, args.out.absolute())
    if args.json:
        emit("table", {"out": args.out, "tensors": len(table.tensors)})
    else:
        screen = Screen(sys.stdout)
        screen.line(f"wrote the ranges of {len(table.tensors)} tensors to {args.out}")
        screen.line(f'next: table = "{args.out}" in [calibration], in place of data')
    return 0
