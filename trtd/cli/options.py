"""Options and look-ups that several commands share."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.errors import Diagnostic, SpecError, UsageError

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

REGISTRY_VARIABLE = "TRTD_REGISTRY"


_ENGINE = re.compile(r"([^@]*)(?:@([1-9][0-9]{0,17}))?")


class Once(argparse.Action):
    """Stores a value; a second one is refused instead of winning in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice")
        setattr(namespace, self.dest, values)


def whole_number(text: str) -> int:
    """Type of arguments that count something, from 1."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def days(text: str) -> float:
    """Type of a time in days, from 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of days from 0, got {text!r}")
    return number


def add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--registry",
        type=Path,
        action=Once,
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
    parser.add_argument(
        "--threads", type=whole_number, default=0, metavar="N", help="CPU threads; default: all usable cores"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="NAME[@N]", help="engine in the registry, and version; default: the live one")


def find_registry(given: Path | None, near: Path | None = None) -> Registry:
    """The registry that was named, or the one around ``near`` or the working folder.

    Raises:
        UsageError: there is none.
        RegistryError: what was named is none.
    """
    found = look_for_registry(given, near)
    if found is None:
        raise UsageError(
            "no registry was given", hint="make one with `trtd init registry`, then add --registry registry"
        )
    return found


def look_for_registry(given: Path | None, near: Path | None = None) -> Registry | None:
    """:func:`find_registry` for commands that can do without."""
    from trtd.registry.layout import Registry, find

    named = given or (Path(os.environ[REGISTRY_VARIABLE]) if os.environ.get(REGISTRY_VARIABLE) else None)
    if named is not None:
        registry = Registry(Path(os.path.realpath(named)))
        registry.check()
        return registry
    return (find(near) if near is not None and near.exists() else None) or find(Path.cwd())


def parse_engine(text: str) -> tuple[str, int | None]:
    """``name@3`` to ("name", 3); ``name`` to ("name", None)."""
    found = _ENGINE.fullmatch(text)
    if found is None:
        hint = f"for example {text.partition('@')[0]}@1"
        raise UsageError(f"{text!r}: a version is a whole number from 1", hint=hint)
    return found[1], int(found[2]) if found[2] else None


def distinct_specs(specs: Sequence[Path]) -> list[Path]:
    """The specs without repeats of one file.

    Raises:
        SpecError: two of them would publish engines of one name, each pushing the other's aside.
    """
    from trtd.spec.lines import key_lines, line_of
    from trtd.spec.load import load_spec

    files = list({os.path.realpath(spec): spec for spec in reversed(specs)}.values())[::-1]
    owners: dict[str, Path] = {}
    faults = []
    for file in files if len(files) > 1 else []:
        try:
            names = [name for spec in load_spec(file).per_target() for name in spec.engine_names.values()]
        except SpecError:  # whoever reads it next tells why
            continue
        for name in names:
            if (owner := owners.setdefault(name, file)) != file:
                message = f"the engine would be called {name}, like that of {owner}"
                line = line_of(key_lines(file.read_text(encoding="utf-8")), ("name",))
                faults.append(Diagnostic(str(file), line, "name", message, 'give it another: name = "..."'))
    if faults:
        raise SpecError(faults)
    return files
