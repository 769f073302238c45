"""Where things lie in a registry.

::

    <root>/
      specs/*.toml               the specs
      models/<name>/<version>/   source models
      engines/<name>/            published: config.pbtxt and <version>/ folders, nothing else
      records/<name>/<version>/  manifest, report, calibration table, build log of each version
      .trtd/                     private: staging/, store/, locks/, logs/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.errors import RegistryError, StorageError
from trtd.store.atomic import fsync_folder, on_one_mount, storage_errors

if TYPE_CHECKING:
    from trtd.store.content import Store

CONFIG_FILE = "config.pbtxt"
MANIFEST_FILE = "manifest.json"
PRIVATE_FOLDER = ".trtd"
# In a record: its engine may not have been published yet; left behind only by a crash.
PENDING_FILE = "pending"
# In a record: its engine was removed on purpose.
RETIRED_FILE = "retired.json"
# In a record: what the daemon had seen when a build last found the version to be right.
EVIDENCE_FILE = "evidence.json"
# What is put into a record beside the files that its manifest names.
MARKS = (MANIFEST_FILE, PENDING_FILE, RETIRED_FILE, EVIDENCE_FILE)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Plain integers that fit the 63 bits that Triton keeps a version in.
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Registry:
    """Paths of one registry. Making one touches no disk; :meth:`init` makes the folders."""

    root: Path

    @property
    def specs(self) -> Path:
        return self.root / "specs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def engines(self) -> Path:
        return self.root / "engines"

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def private(self) -> Path:
        return self.root / PRIVATE_FOLDER

    @property
    def staging(self) -> Path:
        return self.private / "staging"

    @property
    def logs(self) -> Path:
        return self.private / "logs"

    def failed(self, name: str) -> Path:
        """Folder with what tells of the last build of ``name`` that missed a gate."""
        return self.private / "failed" / name

    @property
    def store(self) -> Store:
        from trtd.store.content import (
            Store,  # `trtd status` finds a registry in a third of the time that pydantic takes
        )

        return Store(self.private)

    def init(self) -> None:
        """Make the folders that are not there yet. Raises ``StorageError`` if the disk refuses."""
        self._make(self.specs, self.models)
        self._make_own()

    def check(self) -> None:
        """Raise ``RegistryError`` if this is no registry, ``StorageError`` if it does not lie on one mount.

        Makes the folders that publishing needs. ``specs/`` and ``models/`` are people's: an empty one in place of one
        that was moved away would say that all specs were deleted.
        """
        if not self.private.is_dir():
            hint = f"run `trtd init {self.root}`, or name another registry"
            raise RegistryError("this is not a registry: it holds no .trtd folder", hint=hint, where=str(self.root))
        self._make_own()
        if not on_one_mount(self.engines, self.records, self.staging):
            hint = "publishing renames between them: mount the registry's root as a whole, not its folders"
            raise StorageError("engines/, records/ and .trtd/ lie on different mounts", hint=hint, where=str(self.root))

    def _make_own(self) -> None:
        private = (self.staging, self.store.folder, self.private / "locks", self.logs)
        self._make(self.engines, self.records, *private)

    def _make(self, *folders: Path) -> None:
        for folder in folders:
            with storage_errors("make the registry's folder", folder):
                folder.mkdir(parents=True, exist_ok=True)
        fsync_folder(self.root)

    def engine(self, name: str, version: int) -> Path:
        """Folder of one published version, whether or not it exists."""
        return self.engines / valid_name(name) / str(version)

    def record(self, name: str, version: int) -> Path:
        """Folder of one version's records, whether or not it exists."""
        return self.records / valid_name(name) / str(version)

    def lock(self, name: str) -> Path:
        """The lock file that serializes changes to the engine ``name``: publish, rollback, gc."""
        return self.private / "locks" / f"publish-{valid_name(name)}.lock"

    def names(self) -> tuple[str, ...]:
        """Names of the engines of which at least one version is published, sorted."""
        return tuple(name for name in sorted(_folders(self.engines)) if is_name(name) and self.versions(name))

    def recorded_names(self) -> tuple[str, ...]:
        """Names with records, sorted; some may have no published version (any more)."""
        return tuple(name for name in sorted(_folders(self.records)) if is_name(name))

    def versions(self, name: str) -> tuple[int, ...]:
        """Published versions of an engine, ascending. Leading zeros, files and strays do not count."""
        return _versions(self.engines / valid_name(name))

    def recorded_versions(self, name: str) -> tuple[int, ...]:
        """Versions that have a record, ascending, published or not."""
        return _versions(self.records / valid_name(name))

    def model_versions(self, name: str) -> tuple[int, ...]:
        """Versions of a source model, ascending."""
        return _versions(self.models / valid_name(name))

    def latest(self, name: str) -> int | None:
        """The live version: the highest published one."""
        return max(self.versions(name), default=None)

    def next_version(self, name: str) -> int:
        """One more than any version that is published or recorded. Call it under the lock."""
        return 1 + max((*self.versions(name), *self.recorded_versions(name)), default=0)


def is_name(text: str) -> bool:
    """Whether ``text`` can name an engine or a model: ``[a-z0-9][a-z0-9._-]{0,62}``."""
    return _NAME.fullmatch(text) is not None


def valid_name(text: str) -> str:
    """``text`` itself, if it can be a name; else raises ``RegistryError``."""
    if not is_name(text):
        hint = "a name has 1 to 63 characters: a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
        raise RegistryError(f"{text!r} cannot be a name in a registry", hint=hint)
    return text


def find(start: Path) -> Registry | None:
    """The registry that ``start``, a file or folder, lies in: the nearest folder upward that holds ``.trtd/``."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / PRIVATE_FOLDER).is_dir():
            return Registry(folder)
    return None


def _versions(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(int(name) for name in _folders(folder) if _VERSION.fullmatch(name)))


def _folders(folder: Path) -> Iterator[str]:
    """Names of the real folders in ``folder``; none if it is not there."""
    with storage_errors("list the folder", folder):
        try:
            with os.scandir(folder) as entries:
                yield from [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return
