"""``trtd run``: the daemon, in the foreground or under a service manager."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtd.cli.options import add_registry, find_registry

EXAMPLE = "  trtd run --registry registry\n  cp specs/ppocr-det.toml registry/specs/     # and the engine appears"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: $TRTD_CONFIG, or trtd.toml in the registry if it is there"
    )
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    import faulthandler
    import os
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version

    from trtd.daemon import log
    from trtd.daemon.config import load_config
    from trtd.daemon.loop import Daemon
    from trtd.daemon.notify import Notifier
    from trtd.daemon.parts import open_parts

    with suppress(RuntimeError, OSError, ValueError):  # there is no standard error
        faulthandler.enable()  # the watchdog of systemd ends a loop that hangs by SIGABRT: the log says where it hung
    registry = find_registry(args.registry)
    config = load_config(args.config, registry.root)
    log.set_up(config.log.level, config.log.format, fixed="json" if args.json else None)
    try:
        own = version("trtd")
    except PackageNotFoundError:  # run from its source
        own = "0"
    notifier = Notifier.take(os.environ)
    told = log.Log()
    source = f"configured by {config.file}" if config.file else "not configured: all defaults hold"
    told.info(f"trtd {own} starts on {registry.root}, {source}", version=own, pid=os.getpid())
    with open_parts(registry, config, args.config, own, notifier) as parts:
        Daemon(parts).run()
    told.info("ended")
    return 0
