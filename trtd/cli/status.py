"""``trtd status``: what the daemon does, and how every spec stands.

Reads the state database alone: it works while the daemon is busy, stuck or dead, and never disturbs it. Exits 0
whether or not a daemon runs, and however the specs stand; 4 if none has ever run, so that there is nothing to tell.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING

from trtd.cli.onlooker import find_subject, look_up_registry, unknown_name
from trtd.cli.options import add_registry
from trtd.errors import EnvironmentMissing, UsageError

if TYPE_CHECKING:
    from trtd.daemon.snapshot import SnapshotReader
    from trtd.registry.layout import Registry
    from trtd.status import Event, Snapshot, SubjectStatus
    from trtd.verify.report import Report

EXAMPLE = """\
  trtd status --registry registry
  trtd status --registry registry --watch        # a full-screen view; q leaves it
  trtd status ppocr-det --registry registry      # all about one spec"""

_HISTORY = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a spec, by its name, its file or one of its engines")
    parser.add_argument("--watch", action="store_true", help="on a terminal: a view that follows what happens")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.daemon.snapshot import SnapshotReader

    registry = look_up_registry(args.registry)
    if args.watch and args.name is not None:
        raise UsageError("--watch shows all specs", hint="trtd status --watch, then choose one and press Enter")
    if args.watch and not args.json and sys.stdout.isatty() and (status := _watch(registry)) is not None:
        return status
    reader = SnapshotReader(registry)
    snapshot = reader.read()
    if snapshot.daemon is None and not snapshot.subjects:
        hint = f"start one: trtd run --registry {registry.root}"
        raise EnvironmentMissing("no daemon has ever run on this registry", hint=hint, where=str(registry.root))
    if args.name is not None:
        _show_one(registry, reader, snapshot, args)
    elif args.json:
        from trtd.ui.machine import emit

        emit("status", snapshot)
    else:
        from trtd.ui.plain import write_lines
        from trtd.ui.status_text import snapshot_lines

        write_lines(snapshot_lines(snapshot, time.time(), _width()), sys.stdout)
    return 0


def _show_one(registry: Registry, reader: SnapshotReader, snapshot: Snapshot, args: argparse.Namespace) -> None:
    from trtd.cli.build_log import log_of
    from trtd.daemon.client import as_typed

    name = as_typed(args.name)
    subject = find_subject(snapshot.subjects, name)
    if subject is None:
        raise unknown_name(snapshot.subjects, name)
    stage = (snapshot.live or {}).get(subject.key)
    events = reader.events_of(subject.key)
    log = log_of(registry, reader, subject)
    if args.json:
        from trtd.ui.machine import emit

        found = {"alive": snapshot.alive, "subject": subject, "stage": stage, "events": events, "log": log}
        emit("status", found)
    else:
        from trtd.ui.plain import write_lines
        from trtd.ui.subject_text import subject_lines

        if not snapshot.alive:
            write_lines(["the daemon is not running: this is what it knew last", ""], sys.stdout)
        lines = subject_lines(
            subject, time.time(), stage=stage, events=events, log=str(log) if log else "", width=_width()
        )
        write_lines(lines, sys.stdout)


def _watch(registry: Registry) -> int | None:
    """The full-screen view; ``None`` if this is no terminal for one."""
    from trtd.cli.build_log import log_of
    from trtd.daemon.snapshot import SnapshotReader
    from trtd.pipeline.log import read_tail
    from trtd.pipeline.staleness import read_report
    from trtd.ui.dashboard import fits, watch

    if not fits(sys.stdout):
        return None
    reader = SnapshotReader(registry)

    def report(engine: str, version: int | None) -> Report | None:
        return read_report(registry, engine, version) if version is not None else None

    def log_tail(subject: SubjectStatus) -> list[str]:
        log = log_of(registry, reader, subject)
        return read_tail(log).split("\n") if log is not None else []

    def history(key: str) -> tuple[Event, ...]:
        return reader.events_of(key, _HISTORY)

    return watch(reader.read, report=report, log_tail=log_tail, history=history, registry=str(registry.root))


def _width() -> int | None:
    """Columns to fit into; ``None`` where nobody looks, so that ``grep`` finds whole texts."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
