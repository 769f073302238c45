"""The content-addressed store: what a stage made, under the digest of everything it was made from.

One entry is ``store/<2 hex>/<64 hex>/`` with ``output/`` (the stage's files) and ``inventory.json`` (their sizes and
digests). It appears by one rename, complete, and is never changed; an entry that no longer matches its inventory is
thrown away and counts as a miss. The time of ``inventory.json`` is when the entry was last asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from trtd.document import Document
from trtd.errors import RegistryError, StageError, UsageError
from trtd.store import staging
from trtd.store.atomic import fsync_tree, rename_noreplace, storage_errors, write_file
from trtd.store.digest import PREFIX
from trtd.store.failpoint import failpoint
from trtd.store.lock import hold_folder
from trtd.store.tree import FileFacts, difference, files_under, is_plain, read_inventory, tree_bytes

_KEY = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_OUTPUT = "output"
_INVENTORY = "inventory.json"
_COMMIT_TRIES = 5
DAY_S = 86_400.0


class EntryInventory(Document):
    """``inventory.json``: the key that the entry was stored under and its files."""

    schema_version: Literal[1] = 1
    key: str
    files: dict[str, FileFacts]


@dataclass(frozen=True)
class Store:
    """Stage outputs under ``private/store``, staged under ``private/staging`` on the same mount.

    Keys are digests as :func:`trtd.store.digest.json_digest` gives them, ``sha256:<64 hex>``.
    """

    private: Path

    @property
    def folder(self) -> Path:
        return self.private / "store"

    @property
    def staging_root(self) -> Path:
        return self.private / "staging"

    def get(self, key: str, *, rehash: bool = False) -> Path | None:
        """The folder with the files stored under ``key``; ``None`` if there is none that is whole.

        A torn entry (file missing, added, or of another size; with ``rehash`` also of another digest) is removed.

        Raises:
            StorageError: the disk refused to read.
        """
        entry = self._entry(key)
        with hold_folder(entry, fcntl.LOCK_SH) as held:  # Held off meanwhile: expire() and _discard_torn().
            if not held:
                return None
            with contextlib.suppress(OSError):  # A store that is read-only to us is still good to read.
                os.utime(entry / _INVENTORY)
            if _fault(entry, rehash) is None:
                return entry / _OUTPUT
        self._discard_torn(entry, rehash)
        return None

    @contextlib.contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """An empty folder to fill and then :meth:`commit`; what was not committed goes when the context ends."""
        with staging.staging_folder(self.staging_root, f"store-{_hex(key)[:12]}") as folder:
            output = folder / "entry" / _OUTPUT
            with storage_errors("make a staging folder", output):
                output.mkdir(parents=True)
            yield output

    def commit(self, key: str, folder: Path) -> Path:
        """Store a filled staging folder under ``key``, and return where its files lie from now on.

        If somebody else stored this key first, theirs stays and is returned.

        Raises:
            StageError: the folder is empty, or holds a symlink or another thing that is not a plain file.
            StorageError: the disk refused.
        """
        staged, entry = folder.parent, self._entry(key)
        if folder.name != _OUTPUT or staged.parent.parent != self.staging_root:
            raise UsageError("only a folder from Store.staging can be committed", where=str(folder))
        _refuse_odd_files(folder)
        inventory = EntryInventory(key=PREFIX + _hex(key), files=read_inventory(folder))
        with storage_errors("store a stage's output", entry):
            write_file(staged / _INVENTORY, inventory.model_dump_json(indent=1).encode())
            failpoint("store.inventory-written")
            fsync_tree(staged)
            failpoint("store.synced")
            entry.parent.mkdir(parents=True, exist_ok=True)
        return self._place(key, staged, entry)

    def _place(self, key: str, staged: Path, entry: Path) -> Path:
        for _ in range(_COMMIT_TRIES):
            try:
                rename_noreplace(staged, entry)
            except RegistryError:
                theirs = self.get(key)
                if theirs is not None:
                    return theirs
                continue
            with storage_errors("store a stage's output", entry):
                failpoint("store.renamed")
            return entry / _OUTPUT
        raise RegistryError(
            "a torn entry is in the way and will not go",
            hint="another process is using it: try again, or remove the folder",
            where=str(entry),
        )

    def sweep(self, *, dry_run: bool = False) -> dict[str, int]:
        """Remove staging folders of dead processes: folder's name → bytes."""
        return staging.sweep(self.staging_root, dry_run=dry_run)

    def expire(self, unused_days: float, *, dry_run: bool = False) -> dict[str, int]:
        """Remove the entries that nobody asked for within ``unused_days``: key → bytes.

        An entry is asked for when a stage begins: give more days than a build takes.
        """
        oldest_s = time.time() - unused_days * DAY_S
        removed: dict[str, int] = {}
        for entry in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*")):
            with hold_folder(entry, fcntl.LOCK_EX) as held:
                if not held or _used_s(entry) > oldest_s:
                    continue
                removed[PREFIX + entry.name] = tree_bytes(entry)
                if not dry_run:
                    self._remove(entry)
        return removed

    def discard(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is."""
        entry = self._entry(key)
        with hold_folder(entry, fcntl.LOCK_EX) as held:
            if held:
                self._remove(entry)

    def _entry(self, key: str) -> Path:
        name = _hex(key)
        return self.folder / name[:2] / name

    def _discard_torn(self, entry: Path, rehash: bool) -> None:
        with hold_folder(entry, fcntl.LOCK_EX) as held:
            # Looked at again: somebody may have put a whole entry in its place since.
            if held and _fault(entry, rehash) is not None:
                self._remove(entry)

    def _remove(self, entry: Path) -> None:
        with staging.staging_folder(self.staging_root, f"remove-{entry.name[:12]}") as trash:
            rename_noreplace(entry, trash / entry.name)


def _hex(key: str) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        raise UsageError(f"{key!r} is not a store key", hint="a key is sha256: and 64 hex digits, see json_digest")
    return match[1]


def _fault(entry: Path, rehash: bool) -> str | None:
    """What is wrong with an entry, in words; ``None`` if it is whole."""
    try:
        inventory = EntryInventory.model_validate_json((entry / _INVENTORY).read_bytes())
    except FileNotFoundError:
        return f"{_INVENTORY} is missing"
    except ValidationError:
        return f"{_INVENTORY} cannot be read"
    except OSError as error:
        with storage_errors("read the inventory", entry):
            raise error
    if inventory.key != PREFIX + entry.name:
        return f"{_INVENTORY} is another entry's"
    return difference(entry / _OUTPUT, inventory.files, rehash=rehash)


def _refuse_odd_files(folder: Path) -> None:
    found = files_under(folder)
    if not found:
        raise StageError("a stage left no files behind", where=str(folder))
    for path, facts in found.items():
        if not is_plain(facts):
            hint = "stages may leave plain files and folders only, no symlinks"
            raise StageError(f"a stage left {path}, which is not a plain file", hint=hint, where=str(folder))


def _used_s(entry: Path) -> float:
    """When the entry was last asked for, in seconds since 1970; 0 if it has no inventory."""
    try:
        return (entry / _INVENTORY).stat().st_mtime
    except FileNotFoundError:
        return 0.0
