"""Which files make up a data set: a folder, a glob or one file, told apart and checked by name alone."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trtd.errors import DataError

Kind = Literal["image", "npy", "npz"]

KINDS: dict[str, Kind] = {
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".bmp": "image",
    ".webp": "image",
    ".npy": "npy",
    ".npz": "npz",
}
NOT_DATA = frozenset(
    suffix
    for suffixes in (
        (".txt", ".md", ".rst", ".html", ".log"),
        (".json", ".jsonl", ".csv", ".tsv", ".lst", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
        (".py", ".sh", ".sha256", ".md5", ".db"),
    )
    for suffix in suffixes
)
"""Files that lie beside data without being data: labels, notes, annotations. Anything else unknown is refused."""


@dataclass(frozen=True)
class Listing:
    """The files of one data set.

    Attributes:
        root: folder that ``files`` are relative to.
        kind: of every file.
        files: POSIX paths relative to ``root``, sorted.
        ignored: what lay beside them and was left out, relative to ``root``; folders end in ``/``.
        single: whether one file was named outright, which then is a stack of items.
    """

    root: Path
    kind: Kind
    files: tuple[str, ...]
    ignored: tuple[str, ...]
    single: bool


def list_files(path_or_glob: str, roots: Sequence[Path] = ()) -> Listing:
    """List a data set.

    Args:
        path_or_glob: absolute path of a folder or a file, or a glob; only ``**`` descends into subfolders.
        roots: if given, every file must lie below one of them after symlinks are resolved.

    Raises:
        DataError: nothing matches, kinds are mixed, a file is of no known kind or lies outside ``roots``.
    """
    path = Path(path_or_glob)
    if path.is_dir():
        root, single = path, False
        found = sorted(entry.name for entry in _entries(path))
    elif glob.has_magic(path_or_glob) and not path.exists():
        root, single = _fixed_part(path), False
        pattern = str(path.relative_to(root))
        found = sorted(set(glob.glob(pattern, root_dir=root, recursive=True)))
    elif path.exists():
        root, single, found = path.parent, True, [path.name]
    else:
        raise DataError("no such file or folder", where=path_or_glob, hint="check the path in the spec")
    files, ignored = _sort_out(root, found)
    kind = _kind_of(files, ignored, path_or_glob)
    _check_roots(root, files, roots)
    return Listing(root, kind, tuple(files), tuple(ignored), single)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"cannot list the folder: {error.strerror}", where=str(folder)) from error


def _fixed_part(pattern: Path) -> Path:
    """The part of a glob before its first wildcard."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _sort_out(root: Path, found: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split names into files that may be data and what is left out."""
    files: list[str] = []
    ignored: list[str] = []
    for name in found:
        path = root / name
        if not name.isprintable():
            raise DataError(
                f"the name {name!r} holds what cannot be shown or written as UTF-8",
                where=str(root),
                hint="rename the file: jobs and manifests name items as UTF-8 text",
            )
        posix = Path(name).as_posix()
        if path.name.startswith(".") or path.name == "Thumbs.db" or path.suffix.lower() in NOT_DATA:
            ignored.append(posix)
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise DataError(
                f"cannot be read: {error.strerror}", where=str(path), hint="a dangling link? remove it from the data"
            ) from error
        if stat.S_ISDIR(mode):
            ignored.append(f"{posix}/")
        elif not stat.S_ISREG(mode):
            raise DataError("not a regular file", where=str(path), hint="data sets hold files only")
        else:
            files.append(posix)
    return files, ignored


def _kind_of(files: Sequence[str], ignored: Sequence[str], named: str) -> Kind:
    if not files:
        hint = "check the path in the spec"
        if any(name.endswith("/") for name in ignored):
            hint = f"it holds folders only; to descend into them write a glob such as {Path(named) / '**' / '*.png'}"
        raise DataError("no data files here", where=named, hint=hint)
    examples: dict[Kind, str] = {}
    for name in files:
        suffix = Path(name).suffix.lower()
        kind = KINDS.get(suffix)
        if kind is None:
            raise DataError(
                f"{name!r} is neither an image nor an array ({', '.join(KINDS)})",
                where=named,
                hint="convert it, or name the data with a glob that leaves it out, such as *.png",
            )
        examples.setdefault(kind, name)
    if len(examples) > 1:
        shown = " and ".join(repr(name) for name in examples.values())
        raise DataError(f"the data mixes kinds: {shown}", where=named, hint="name one kind with a glob, such as *.npz")
    return next(iter(examples))


def _check_roots(root: Path, files: Sequence[str], roots: Sequence[Path]) -> None:
    if not roots:
        return
    allowed = [allowed_root.resolve() for allowed_root in roots]
    folders: dict[Path, Path] = {}  # resolving each folder once keeps large sets cheap
    for name in files:
        path = root / name
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
        real = path.resolve() if path.is_symlink() else folders[path.parent] / path.name
        if not any(real.is_relative_to(top) for top in allowed):
            from trtd.spec.paths import how_to_allow  # only now: stages read data without specs

            raise DataError(
                f"leads outside the allowed roots, to {real}",
                where=str(path),
                hint=f"copy the file into the data folder, or {how_to_allow(real.parent, roots)}",
            )
