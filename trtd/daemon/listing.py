"""Listings of files, reduced to a digest while they are read: however many files there are, none is remembered."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import heapq
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from trtd.calibrate.listing import KINDS, NOT_DATA

MAX_DEPTH = 3
"""How far down the files of a model folder count: those in it, in its folders, and in the folders of these."""
MAX_FOLDERS = 32
"""So many folders of one set, at most, are named for watching: a glob may lead to thousands."""

NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
"""What is missing or forbidden is an empty listing: a build will say what is wrong. Anything else may pass."""

_MODELS = frozenset(".onnx .pdmodel .pdiparams .json .plan .engine .trt".split())
_MASK = (1 << 256) - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one input set.

    Attributes:
        digest: of names, sizes, mtimes and inodes.
        folders: real paths of folders in which a change may change the listing; those that exist.
        home: the one folder in which every change happens; ``None`` if there are several, or links lead away from it.
        newest: paths of the regular files that changed last.
        format: of a model, judged by names.
    """

    digest: str
    folders: tuple[str, ...]
    home: str | None
    newest: tuple[str, ...]
    format: Literal["onnx", "paddle"]


class Lister:
    """Makes one listing: any number of ``add_...``, then :meth:`listing`. Each raises ``OSError`` if the disk fails.

    Args:
        newest: how many of the files that changed last are to be named.
    """

    def __init__(self, newest: int) -> None:
        self._limit = newest
        self._newest: list[tuple[int, str]] = []
        self._sum = 0
        self._links = False
        self._suffixes: set[str] = set()
        self._folders: dict[str, None] = {}

    def listing(self, home: str, watched: str | None = None) -> Listing:
        """What was added.

        Args:
            home: the folder that was listed.
            watched: a folder above it; whatever happens there counts as well.
        """
        found = self._suffixes
        paddle = ".pdmodel" in found or ".pdiparams" in found or (".json" in found and ".onnx" not in found)
        only = not self._links and all(folder == home for folder in self._folders)
        return Listing(
            digest=f"{self._sum:064x}",
            folders=tuple(dict.fromkeys([*self._folders, *([watched] if watched else [])])),
            home=home if only and self._folders else None,
            newest=tuple(path for _, path in sorted(self._newest, reverse=True)),
            format="paddle" if paddle else "onnx",
        )

    def add_model(self, path: Path) -> str:
        """Files of the model that a path means, by their names alone; gives the folder that they are in.

        Of a folder these are all files in it. Of a Paddle file, the files of that stem. An ONNX file may keep weights
        in files of any name beside it, so all count that are not plainly something else.
        """
        if os.path.isdir(path):
            self.add_tree(str(path))
            return str(path)
        home = str(path.parent)
        if path.suffix == ".onnx":
            for inner in self._add_folder(home, "", lambda name: _goes_with_onnx(name, path.stem)):
                if inner.startswith(path.stem):
                    self.add_tree(f"{home}/{inner}", f"{inner}/", MAX_DEPTH - 1)
        else:
            self._add_folder(home, "", lambda name: name.startswith(f"{path.stem}."))
        return home

    def add_tree(self, folder: str, prefix: str = "", depth: int = MAX_DEPTH) -> None:
        """Files in a folder and those below it, hidden ones aside. Links to folders are not followed."""
        inner = self._add_folder(folder, prefix, _is_visible)
        for name in inner if depth > 1 else ():
            self.add_tree(f"{folder}/{name}", f"{prefix}{name}/", depth - 1)

    def add_data(self, path: Path) -> str:
        """Files of a data set by the rules of :func:`trtd.calibrate.listing.list_files`; gives their folder."""
        if os.path.isdir(path):
            self._add_folder(str(path), "", _is_data)
            return str(path)
        if not glob.has_magic(str(path)) or os.path.exists(path):
            return self.add_file(path)
        first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        home, pattern = str(Path(*path.parts[:first])), path.parts[first:]
        if "**" in pattern:
            self._add_everywhere(home, pattern[-1])
        else:
            self._add_glob(home, "/".join(pattern))
        return home

    def add_file(self, path: Path) -> str:
        """One file, if it is there; gives its folder."""
        self._add_path(path.name, str(path))
        self._note_folder(str(path.parent))
        return str(path.parent)

    def _add_glob(self, root: str, pattern: str) -> None:
        self._note_folder(root)
        for name in glob.iglob(pattern, root_dir=root):
            folder, _, base = name.rpartition("/")
            if _is_data(base):
                self._add_path(name, f"{root}/{name}")
            if folder and len(self._folders) < MAX_FOLDERS:
                self._note_folder(os.path.realpath(f"{root}/{folder}"))

    def _add_everywhere(self, root: str, last: str) -> None:
        """Files below ``root`` whose names match, each folder once.

        ``glob`` follows links in ``**``: two links to ``.`` would keep it busy for ever.
        """
        for folder, inode in _folders_below(root):
            self._note_folder(os.path.realpath(folder))
            with _entries(folder) as entries:
                for entry in entries:
                    if _is_data(entry.name) and (last == "**" or fnmatchcase(entry.name, last)):
                        self._links |= entry.is_symlink()
                        self._add(f"{inode}/{entry.name}", entry.path, _status(entry))

    def _add_folder(self, folder: str, prefix: str, wanted: Callable[[str], bool]) -> list[str]:
        """Add the wanted files of a folder; gives the names of the folders in it, neither hidden ones nor links."""
        inner: list[str] = []
        self._note_folder(folder)
        with _entries(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner += [entry.name] if _is_visible(entry.name) else []
                elif wanted(entry.name):
                    self._links |= entry.is_symlink()
                    self._add(prefix + entry.name, entry.path, _status(entry))
        return inner

    def _add_path(self, name: str, path: str) -> None:
        try:
            status: os.stat_result | None = os.lstat(path)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return
        if status is not None and stat.S_ISLNK(status.st_mode):
            self._links = True
            status = _stat(path)
        self._add(name, path, status)

    def _add(self, name: str, path: str, status: os.stat_result | None) -> None:
        if status is None:
            line = f"{name}\0cannot be read"
        elif stat.S_ISDIR(status.st_mode):
            return
        else:
            line = f"{name}\0{status.st_size} {status.st_mtime_ns} {status.st_ino}"
            if self._limit and stat.S_ISREG(status.st_mode):
                self._note_age(status.st_ctime_ns, path)
        if (suffix := os.path.splitext(name)[1]) in _MODELS:
            self._suffixes.add(suffix)
        # A sum of digests is the same in whatever order the names come: nothing has to be kept until it can be sorted.
        digest = hashlib.sha256(line.encode("utf-8", "surrogateescape")).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) & _MASK

    def _note_age(self, ctime_ns: int, path: str) -> None:
        if len(self._newest) < self._limit:
            heapq.heappush(self._newest, (ctime_ns, path))
        else:
            heapq.heappushpop(self._newest, (ctime_ns, path))

    def _note_folder(self, folder: str) -> None:
        if len(self._folders) < MAX_FOLDERS and os.path.isdir(folder):
            self._folders.setdefault(folder)


@contextlib.contextmanager
def _entries(folder: str) -> Iterator[Iterable[os.DirEntry[str]]]:
    """What is in a folder; nothing if it is missing or forbidden."""
    try:
        found = os.scandir(folder)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        yield ()
        return
    with found:
        yield found


def _folders_below(root: str) -> Iterator[tuple[str, int]]:
    """A folder and all below it, through links too but each only once, with their inodes; hidden ones aside."""
    waiting, known = [root], set()
    while waiting:
        folder = waiting.pop()
        status = _stat(folder)
        if status is None or (status.st_dev, status.st_ino) in known:
            continue
        known.add((status.st_dev, status.st_ino))
        yield folder, status.st_ino
        with _entries(folder) as entries:
            waiting += [entry.path for entry in entries if _is_visible(entry.name) and entry.is_dir()]


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return None


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return None


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name != "Thumbs.db" and os.path.splitext(name)[1].lower() not in NOT_DATA


def _goes_with_onnx(name: str, stem: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    other = suffix in _MODELS or suffix in KINDS or suffix in NOT_DATA
    return name.startswith(f"{stem}.") or (_is_visible(name) and not other)
