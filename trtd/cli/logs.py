"""``trtd logs``: what a build printed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.cli.onlooker import find_subject, look_up_registry, unknown_name
from trtd.cli.options import add_registry, parse_engine
from trtd.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from trtd.daemon.snapshot import SnapshotReader
    from trtd.registry.layout import Registry

EXAMPLE = """\
  trtd logs ppocr-det --registry registry --follow
  trtd logs ppocr-det-int8@2 --registry registry     # of a published version"""

_POLL_S = 0.25
_JSON_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME[@N]", help="a spec, by its name, its file or one of its engines; or a published version"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what comes, the next attempts included")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.daemon.client import as_typed
    from trtd.daemon.snapshot import SnapshotReader

    if args.follow and args.json:
        raise UsageError("--json is one document, which --follow never ends", hint="leave out one of them")
    registry = look_up_registry(args.registry)
    reader = SnapshotReader(registry)
    name = as_typed(args.name)
    find = _finder(registry, reader, name)
    path = find()
    if args.follow:
        _follow(find)
    elif path is None:
        raise RegistryError(f"there is no log of {name} (any more)", hint=f"trtd status {name} tells how it stands")
    elif args.json:
        from trtd.pipeline.log import read_tail
        from trtd.ui.machine import emit

        is_cut = path.stat().st_size > _JSON_BYTES
        emit("logs", {"name": name, "path": path, "cut": is_cut, "text": read_tail(path, limit_bytes=_JSON_BYTES)})
    else:
        _print_all(path)
    return 0


def _finder(registry: Registry, reader: SnapshotReader, name: str) -> Callable[[], Path | None]:
    """Gives the log to show now. Raises ``UsageError`` if there is neither a spec nor an engine of that name."""
    from trtd.cli.build_log import log_of, record_log

    subject = find_subject(reader.read().subjects, name)
    if subject is not None:
        key = subject.key

        def of_spec() -> Path | None:
            found = find_subject(reader.read().subjects, key)
            return log_of(registry, reader, found) if found is not None else None

        return of_spec
    engine, version = parse_engine(name)
    if (log := record_log(registry, engine, version)) is not None:
        return lambda: log
    raise unknown_name(reader.read().subjects, name)


def _print_all(path: Path) -> None:
    from trtd.cli.build_log import Follower

    follower = Follower(lambda: path)
    for found in (*follower.poll(), *follower.finish()):
        if isinstance(found, bytes):
            _print(found)
    follower.close()


def _follow(find: Callable[[], Path | None]) -> None:
    """Until somebody has had enough."""
    from trtd.cli.build_log import Follower
    from trtd.ui.literal import visible

    follower = Follower(find)
    try:
        while True:
            for found in follower.poll():
                if isinstance(found, bytes):
                    _print(found)
                else:
                    sys.stdout.flush()
                    print(f"==> {visible(found)} <==", file=sys.stderr, flush=True)
            sys.stdout.flush()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:  # how one ends it
        for line in follower.finish():
            _print(line)
    finally:
        follower.close()


def _print(line: bytes) -> None:
    """One line of a log. What libraries print must not act on the terminal."""
    from trtd.pipeline.log import clean
    from trtd.ui.literal import encodable

    text = clean(line.decode("utf-8", "backslashreplace").rstrip("\r"))
    sys.stdout.write(encodable(text, sys.stdout.encoding or "utf-8") + "\n")
