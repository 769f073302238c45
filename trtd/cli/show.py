"""``trtd show``: what is published, and how it did."""

from __future__ import annotations

import argparse
import sys

from trtd.cli.options import add_registry, find_registry, parse_engine
from trtd.errors import UsageError

EXAMPLE = "  trtd show --registry registry\n  trtd show digits-int8 --registry registry --html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", nargs="?", metavar="NAME[@N]", help="engine and version; default: list all engines")
    parser.add_argument("--html", action="store_true", help="print the path of the HTML report alone")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import HTML_FILE
    from trtd.pipeline.staleness import read_report
    from trtd.registry.lookup import current
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    if args.html and args.engine is None:
        raise UsageError("--html wants the name of an engine", hint="trtd show lists them")
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
