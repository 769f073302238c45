"""The draft of a version: everything that a publish will rename into place, written, flushed and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from trtd.errors import RegistryError, StorageError
from trtd.registry.layout import CONFIG_FILE, MANIFEST_FILE, MARKS, PENDING_FILE
from trtd.registry.manifest import Manifest, Provenance
from trtd.registry.triton import config_pbtxt, triton_backend
from trtd.store.atomic import fsync_tree, storage_errors
from trtd.store.failpoint import failpoint
from trtd.store.tree import FileFacts, Inventory, copy_file, difference, file_facts


@dataclass(frozen=True)
class Candidate:
    """What somebody wants to publish; the arguments of :func:`trtd.registry.publish.publish`."""

    name: str
    files: Mapping[str, Path]
    record_files: Mapping[str, Path]
    provenance: Provenance


@dataclass(frozen=True)
class Draft:
    """A staged version.

    Attributes:
        manifest: as it will be published.
        record: the folder that becomes ``records/<name>/<version>``.
        model: a folder with ``config.pbtxt`` and ``<version>/``: becomes ``engines/<name>``, or gives it its version.
    """

    manifest: Manifest
    record: Path
    model: Path

    @property
    def engine(self) -> Path:
        return self.model / str(self.manifest.version)

    @property
    def config(self) -> Path:
        return self.model / CONFIG_FILE


def refuse_bad_names(candidate: Candidate) -> None:
    """Raise ``RegistryError`` if a file's name is not fit to publish, or the file that the target serves is missing."""
    for name in (*candidate.files, *candidate.record_files):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or name == "." or "\0" in name:
            hint = "use a plain relative path, without '..'"
            raise RegistryError(f"{name!r} cannot be the name of a published file", hint=hint)
    taken = [name for name in candidate.record_files if name in MARKS]
    if taken:
        raise RegistryError(f"the registry itself writes {taken[0]} into a record", hint="give the file another name")
    target = candidate.provenance.target
    for wanted in target.variants.values() or [triton_backend(target.backend).model_file]:
        if wanted not in candidate.files:
            hint = f"the target {target.backend} serves exactly this file name"
            raise RegistryError(f"no {wanted} among the files to publish: {sorted(candidate.files)}", hint=hint)


def write_draft(folder: Path, candidate: Candidate, version: int) -> Draft:
    """Copy the files into ``folder``, write manifest and configuration, flush all of it, and check it on the disk.

    Raises:
        RegistryError: a file to publish is missing, a symlink, or not a plain file.
        StorageError: the disk refused, or gave back other bytes than were written.
    """
    record, model = folder / "record", folder / "model"
    with storage_errors("stage the version", folder):
        published = _copy_all(candidate.files, model / str(version))
        recorded = _copy_all(candidate.record_files, record)
        record.mkdir(exist_ok=True)
        (model / CONFIG_FILE).write_bytes(_config(candidate))
        manifest = Manifest(
            **{key: getattr(candidate.provenance, key) for key in Provenance.model_fields},
            name=candidate.name,
            version=version,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            files=published,
            records=recorded,
            config=file_facts(model / CONFIG_FILE),
        )
        (record / MANIFEST_FILE).write_bytes(manifest.to_json())
        (record / PENDING_FILE).touch()
        failpoint("publish.staged")
        fsync_tree(folder)
        failpoint("publish.synced")
    draft = Draft(manifest, record, model)
    _reread(draft)
    return draft


def _config(candidate: Candidate) -> bytes:
    facts = candidate.provenance
    shapes = (facts.inputs, facts.outputs, facts.max_batch_size)
    target = facts.target
    return config_pbtxt(candidate.name, target.backend, *shapes, target.variants, target.accelerators).encode()


def _copy_all(files: Mapping[str, Path], folder: Path) -> Inventory:
    copied: dict[str, FileFacts] = {}
    for name, source in sorted(files.items()):
        facts = copy_file(source, folder / name)
        if facts is None:
            hint = "publish the file itself: no symlink, folder or device"
            raise RegistryError(f"{name} is not a plain file", hint=hint, where=str(source))
        copied[name] = facts
    return copied


def _reread(draft: Draft) -> None:
    """Compare what the disk gives back with what was read from the sources."""
    manifest = draft.manifest
    fault = difference(draft.engine, manifest.files, rehash=True, from_disk=True)
    own = {name: file_facts(draft.record / name) for name in (MANIFEST_FILE, PENDING_FILE)}
    fault = fault or difference(draft.record, manifest.records | own, rehash=True, from_disk=True)
    if fault is None and (draft.record / MANIFEST_FILE).read_bytes() != manifest.to_json():
        fault = f"{MANIFEST_FILE} differs"
    if fault is not None:
        what = f"the disk gave back other bytes than were written: {fault}"
        hint = "nothing was published; look into `dmesg` and the disk's health"
        raise StorageError(what, hint=hint, where=str(draft.model))
    with storage_errors("check the staged version", draft.model):
        failpoint("publish.checked")
