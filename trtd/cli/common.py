"""Options and look-ups that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.errors import UsageError

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

REGISTRY_VARIABLE = "TRTD_REGISTRY"


def add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--registry",
        type=Path,
        metavar="DIR",
        help=f"the registry; default: ${REGISTRY_VARIABLE}, or the one that the spec or the working folder lies in",
    )


def add_roots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-root",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a further folder that specs may read models and data from; may be repeated",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all usable cores")


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="NAME[@N]", help="engine in the registry, and version; default: the live one")


def find_registry(given: Path | None, near: Path | None = None) -> Registry:
    """The registry that was named, or the one around ``near`` or the working folder.

    Raises:
        UsageError: there is none.
    """
    from trtd.registry.layout import Registry, find

    named = given or (Path(os.environ[REGISTRY_VARIABLE]) if os.environ.get(REGISTRY_VARIABLE) else None)
    if named is not None:
        registry = Registry(named.absolute())
        registry.check()
        return registry
    found = (find(near) if near is not None and near.exists() else None) or find(Path.cwd())
    if found is None:
        raise UsageError(
            "no registry was given", hint="make one with `trtd init registry`, then add --registry registry"
        )
    return found


def parse_engine(text: str) -> tuple[str, int | None]:
    """``name@3`` to ("name", 3); ``name`` to ("name", None)."""
    name, at, number = text.partition("@")
    if not at:
        return name, None
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(f"{text!r}: a version is a whole number from 1", hint=f"for example {name}@1")
    return name, int(number)
