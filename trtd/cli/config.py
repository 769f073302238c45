"""``trtd config``: the daemon's configuration as it would hold, and where each value comes from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from trtd.cli.options import add_registry, look_for_registry

EXAMPLE = """\
  trtd config --registry registry
  trtd config --config /etc/trtd/trtd.toml"""

_COLUMN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration; default: $TRTD_CONFIG, or trtd.toml in the registry, or none: all defaults",
    )
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.daemon.config import load_config
    from trtd.ui.machine import emit

    registry = look_for_registry(args.registry)
    config = load_config(args.config, registry.root if registry else None)
    if args.json:
        emit("config", {"file": config.file, "keys": config.resolved()})
    else:
        _show(config.file, config.resolved())
    return 0


def _show(file: Path | None, keys: dict[str, dict[str, Any]]) -> None:
    """As TOML, so that it can be the start of a file."""
    from trtd.ui.literal import encodable, visible

    lines = [f"# {file}" if file else "# no configuration file: these are the defaults"]
    section = ""
    for name, found in keys.items():
        head, _, key = name.partition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        unset = found["value"] is None
        text = f"# {key} is not set" if unset else f"{key} = {_toml(found['value'])}"
        lines.append(text if unset else f"{text:<{_COLUMN}} # {found['from']}")
    for line in lines:
        print(encodable(visible(line), sys.stdout.encoding or "utf-8"))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(_character(c) for c in value) + '"'
    return repr(value)


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
