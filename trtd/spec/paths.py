"""Which files a spec may name: those in allowed folders, after every symbolic link has been followed."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from trtd.errors import Diagnostic, SpecError
from trtd.spec.lines import key_lines, line_of
from trtd.spec.section import KeyPath
from trtd.spec.values import dotted, literal, printable

ENVIRONMENT = "TRTD_ALLOWED_ROOTS"
"""Further allowed folders, separated like those of ``PATH``."""

_GLOB = re.compile(r"[*?[]")


class FixedRoots(tuple[Path, ...]):
    """Allowed folders that the operator of a daemon fixed: only ``trtd.toml`` adds to them."""

    __slots__ = ()


def resolve(spec_file: Path, text: str, roots: Sequence[Path], *, key: KeyPath = ()) -> Path:
    """The absolute path that ``text`` means in a spec, free of symbolic links; it need not exist.

    Of a glob, the part before the first wildcard is resolved, and what is special to :mod:`glob` in it is escaped, so
    that ``glob.glob(str(path))`` finds what the author meant. A file whose name looks like a glob wins over the glob.
    Files that a glob or a folder leads to may be links themselves: check each with :func:`is_inside`.

    Args:
        spec_file: the spec; relative paths start at its folder.
        text: a path or a glob, as written.
        roots: folders that may be read, as :func:`default_roots` gives them.
        key: where the spec says so, e.g. ``("model", "path")``, for the diagnostic.

    Raises:
        SpecError: the path leads out of ``roots``, or is none.
    """
    folder = Path(os.path.abspath(spec_file)).parent
    fixed, pattern = _split(folder, text)
    try:
        real = Path(os.path.realpath(folder / fixed))
    except (OSError, ValueError) as error:
        raise _refused(spec_file, key, f"{literal(text)} is no path: {error}", "") from None
    if ".." in Path(pattern).parts:
        raise _refused(spec_file, key, f"{literal(text)} goes up (..) after a wildcard", "write .. before the wildcard")
    if not is_inside(real, roots):
        how = "to" if Path(os.path.abspath(folder / fixed)) == real else "through a symbolic link to"
        raise _refused(spec_file, key, *_outside(f"{literal(text)} leads {how}", real, roots))
    return Path(glob.escape(str(real)), pattern) if pattern else real


def is_inside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether ``path``, after following every symbolic link, is one of ``roots`` or lies in one."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


def default_roots(
    spec_file: Path, registry: Path | None = None, extra: Sequence[Path] | None = None
) -> tuple[Path, ...]:
    """The folders that a spec may read, real paths without repeats.

    These are the registry, the parent of the spec's folder, that folder, the working directory, and ``extra``. The
    root of the file system is allowed only if ``extra`` says so: a service often works in it.

    Args:
        spec_file: the spec.
        registry: the registry's root, if there is one.
        extra: further folders; ``None`` takes those of the environment variable ``TRTD_ALLOWED_ROOTS``.
    """
    folder = Path(os.path.realpath(Path(os.path.abspath(spec_file)).parent))
    usual = [*([registry] if registry else []), folder.parent, folder, Path.cwd()]
    real = [Path(os.path.realpath(root)) for root in usual]
    chosen = roots_from_environment() if extra is None else extra
    kept = [root for root in real if root != Path(root.anchor)] + [Path(os.path.realpath(root)) for root in chosen]
    return tuple(dict.fromkeys(kept))


def how_to_allow(folder: Path, roots: Sequence[Path]) -> str:
    """What to do so that specs may read a folder beside ``roots``."""
    name = printable(str(folder))
    if isinstance(roots, FixedRoots):
        return f'add "{name}" to [access] roots in the daemon\'s trtd.toml, and reload that'
    return f"allow its folder: --allow-root {shlex.quote(name)}, or export {ENVIRONMENT}={shlex.quote(name)}"


def roots_from_environment() -> tuple[Path, ...]:
    """The folders that ``TRTD_ALLOWED_ROOTS`` names; empty entries count for nothing."""
    return tuple(Path(entry) for entry in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if entry)


def _split(folder: Path, text: str) -> tuple[str, str]:
    """What stands before the first path component with a wildcard, and the rest."""
    if not _GLOB.search(text) or os.path.lexists(folder / text):
        return text, ""
    parts = Path(text).parts
    first = next(index for index, part in enumerate(parts) if _GLOB.search(part))
    return str(Path(*parts[:first])), str(Path(*parts[first:]))


def _outside(leads_to: str, real: Path, roots: Sequence[Path]) -> tuple[str, str]:
    """Message and hint: where the path leads, where it may lead, and how to allow more."""
    allowed = ", ".join(printable(str(root)) for root in roots) or "none"
    folder = real if real.is_dir() else real.parent
    message = f"{leads_to} {printable(str(real))}, outside the folders that this spec may read: {allowed}"
    return message, f"move it into one of them, or {how_to_allow(folder, roots)}"


def _refused(spec_file: Path, key: KeyPath, message: str, hint: str) -> SpecError:
    return SpecError([Diagnostic(printable(str(spec_file)), _line(spec_file, key), dotted(key), message, hint)])


def _line(spec_file: Path, key: KeyPath) -> int | None:
    try:
        return line_of(key_lines(spec_file.read_text(encoding="utf-8")), key) if key else None
    except (OSError, ValueError):
        return None
