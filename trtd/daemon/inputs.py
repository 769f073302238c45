"""What a spec reads beside itself: its model, its data, labels and hook.

The daemon never opens these files. It digests listings of them (name, size, mtime, inode); when a listing changes, a
build process looks at the bytes. A file too many in a listing costs a look, a file too few a missed change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from trtd.daemon.listing import Lister, Listing
from trtd.errors import TrtdError
from trtd.registry.layout import Registry
from trtd.spec.paths import FixedRoots, is_inside, resolve
from trtd.spec.schema import Spec
from trtd.spec.section import KeyPath

Kind = Literal["model", "registry", "data", "file"]
TOP1 = "top1"


class InputSet(NamedTuple):
    """Files that are listed together. Specs of one folder that write the same text mean the same files.

    Attributes:
        kind: ``model``: a path; ``registry``: a model of the registry; ``data``: a glob, folder or file; ``file``.
        text: a path as written in the spec, or the registry model's name.
        version: of the registry model; ``None`` for the latest.
    """

    kind: Kind
    text: str
    version: int | None = None


Use = tuple[InputSet, KeyPath]
"""A set, and the key of the spec that names it."""


def inputs_of(spec: Spec) -> tuple[Use, ...]:
    """Everything that a build of the spec would read, each set once."""
    model, verify = spec.model, spec.verify
    uses: list[Use] = []
    if model.path is not None:
        uses.append((InputSet("model", model.path), ("model", "path")))
    else:
        version = model.version if isinstance(model.version, int) else None
        uses.append((InputSet("registry", model.registry or "", version), ("model", "registry")))
    if spec.engine.quantized_model is not None:
        uses.append((InputSet("model", spec.engine.quantized_model), ("engine", "quantized_model")))
    if spec.calibration is not None and spec.calibration.data is not None:
        uses.append((InputSet("data", spec.calibration.data), ("calibration", "data")))
    if spec.calibration is not None and spec.calibration.table is not None:
        uses.append((InputSet("file", spec.calibration.table), ("calibration", "table")))
    if verify.data is not None:
        uses.append((InputSet("data", verify.data), ("verify", "data")))
    if verify.labels is not None:
        uses.append((InputSet("file", verify.labels), ("verify", "labels")))
    if verify.metric is not None and verify.metric != TOP1:
        uses.append((InputSet("file", verify.metric.rpartition(":")[0]), ("verify", "metric")))
    unique: dict[InputSet, KeyPath] = {}
    for input_set, key in uses:
        unique.setdefault(input_set, key)
    return tuple(unique.items())


class Inputs:
    """Lists input sets of the specs of one registry.

    Args:
        registry: relative paths start at its ``specs/``.
        roots: folders that specs may read; the operator's, and no others.
    """

    def __init__(self, registry: Registry, roots: Sequence[Path]) -> None:
        self._registry = registry
        self._roots = FixedRoots(roots)
        self.look_up()

    def look_up(self) -> None:
        """Find out where ``models/`` really lies. Ten thousand listings are not to find out each for itself."""
        self._models = os.path.realpath(self._registry.models)

    def list(self, input_set: InputSet, *, newest: int = 0) -> Listing:
        """The set's files as they are now; an empty listing if there are none.

        Args:
            newest: how many of the files that changed last are to be named.

        Raises:
            SpecError: the path leads out of the roots.
            OSError, StorageError: the disk or the network failed.
        """
        lister = Lister(newest)
        if input_set.kind == "registry":
            return self._registry_model(lister, input_set.text, input_set.version)
        path = resolve(self._registry.specs / "any.toml", input_set.text, self._roots)
        add = {"model": lister.add_model, "data": lister.add_data, "file": lister.add_file}[input_set.kind]
        home = add(path)
        return lister.listing(home, self._watched(input_set.text, home))

    def are_still(self, listings: Iterable[tuple[InputSet, str]]) -> bool:
        """Whether these sets have these digests now; not if they cannot be listed."""
        try:
            return all(self.list(input_set).digest == digest for input_set, digest in listings)
        except (OSError, TrtdError):
            return False

    def check(self, spec_file: Path, uses: Sequence[Use]) -> None:
        """Raise ``SpecError``, naming file, line and key, if a path of the spec leads out of the roots."""
        for input_set, key in uses:
            if input_set.kind != "registry":
                resolve(spec_file, input_set.text, self._roots, key=key)

    def _registry_model(self, lister: Lister, name: str, version: int | None) -> Listing:
        """Its home is ``models/``, which is watched with all that is in it."""
        top = self._models
        wanted = max(self._registry.model_versions(name), default=None) if version is None else version
        if wanted is not None:
            lister.add_tree(f"{top}/{name}/{wanted}", f"{wanted}/")
        folder = f"{top}/{name}"
        found = lister.listing(top, folder if os.path.isdir(folder) else top)
        return replace(found, home=top)

    def _watched(self, text: str, home: str) -> str | None:
        """A folder to watch beside those that were listed: where a missing one may appear, or a link may be turned."""
        written = self._registry.specs / re.split(r"/[^/]*[*?[]", text, maxsplit=1)[0]
        if os.path.islink(written):
            above = os.path.realpath(written.parent)
        elif not os.path.isdir(home):
            above = next((str(folder) for folder in Path(home).parents if os.path.isdir(folder)), home)
        else:
            return None
        return above if is_inside(Path(above), self._roots) else None
