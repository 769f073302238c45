"""``trtd show``: what is published, and how it did."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trtd.cli.options import add_registry, find_registry, parse_engine
from trtd.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from trtd.engines.tensorrt.layers import Layers
    from trtd.registry.layout import Registry
    from trtd.registry.manifest import Manifest

EXAMPLE = """\
  trtd show --registry registry
  trtd show digits-int8 --registry registry --html
  trtd show det-int8 --registry registry --layers    # of a TensorRT engine: what really runs in 8 bits"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", nargs="?", metavar="NAME[@N]", help="engine and version; default: list all engines")
    parser.add_argument("--html", action="store_true", help="print the path of the HTML report alone")
    parser.add_argument("--layers", action="store_true", help="list the layers of a TensorRT engine, as it ran")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import HTML_FILE
    from trtd.pipeline.staleness import read_report
    from trtd.registry.lookup import current
    from trtd.registry.manifest import verify_files
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    if (args.html or args.layers) and args.engine is None:
        raise UsageError("--html and --layers want the name of an engine", hint="trtd show lists them")
    registry = find_registry(args.registry)
    screen = Screen(sys.stdout)
    if args.engine is None:
        published = [current(registry, name)[0] for name in registry.names()]
        if args.json:
            emit("show", [{"name": m.name, "version": m.version, "precision": m.precision} for m in published])
        elif published:
            screen.results([read_report(registry, m.name, m.version) for m in published])
        else:
            screen.line("nothing is published yet; trtd build SPEC publishes")
        return 0
    manifest, folder = current(registry, *parse_engine(args.engine))
    verify_files(registry, manifest.name, manifest.version)  # nobody is to trust the figures of what was changed since
    if args.layers:
        found = _layers(registry, manifest)
        if args.json:
            emit("show", {"name": manifest.name, "version": manifest.version, "layers": found})
        else:
            screen.layers(found)
        return 0
    report = read_report(registry, manifest.name, manifest.version)
    html = registry.record(manifest.name, manifest.version) / HTML_FILE
    if args.json:
        emit("show", {"manifest": manifest, "report": report, "engine": folder, "html": html})
    elif args.html:
        screen.line(str(html))
    else:
        versions = registry.versions(manifest.name)
        screen.line(f"{manifest.name}@{manifest.version}, published {manifest.created}", "bold")
        screen.line(f"  versions: {', '.join(map(str, versions))}; live: {versions[-1]}")
        screen.line(f"  engine:   {folder}")
        screen.line(f"  report:   {html}")
        screen.line(f"  spec:     {manifest.spec_file}")
        if manifest.rolled_back_from:
            screen.line(f"  rolled back from version {manifest.rolled_back_from}")
        screen.line()
        screen.results([report])
        screen.line()
        screen.gates(report)
    return 0


def _layers(registry: Registry, manifest: Manifest) -> Layers:
    from trtd.engines.tensorrt.layers import Layers
    from trtd.pipeline.contracts import LAYERS_FILE
    from trtd.pipeline.publishing import LOG_FILE
    from trtd.spec.fields import PADDLE

    path = registry.record(manifest.name, manifest.version) / LAYERS_FILE
    if not path.is_file():
        named = f"{manifest.name}@{manifest.version}"
        if manifest.proof == "emulated":
            hint = f"trtd verify {manifest.name}, where its GPU is, runs it and writes them down"
            raise RegistryError(f"nobody has seen the layers of {named} yet: it has not run on its device", hint=hint)
        hint = "an ONNX engine is its own description: open it with Netron"
        if manifest.target.backend in PADDLE:
            hint = f"what Paddle gave to TensorRT stands in {path.parent / LOG_FILE}"
        raise RegistryError(
            f"{named} is no TensorRT engine: {manifest.target.backend} has no layers to list", hint=hint
        )
    return Layers.model_validate_json(path.read_bytes())
