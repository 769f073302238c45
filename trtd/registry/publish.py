"""Publishing: a version is there, complete, or it is not, at every instant and whatever dies.

Order of the steps, under the name's lock:

1. stage the engine, its record and ``config.pbtxt`` on the registry's mount, flush them, read them again;
2. rename the record into ``records/<name>/``: with its ``pending`` mark, it claims nothing yet;
3. rename the engine: **this one rename is the publish**. It moves the version's folder if ``config.pbtxt`` stays as it
   is, the whole ``engines/<name>/`` the first time, and swaps the whole folder if ``config.pbtxt`` changes, so that no
   version is ever seen beside a configuration that is not its own or an older one's with the same text;
4. remove the ``pending`` mark.

A crash before 3 leaves an unseen record and a staging folder, which ``gc`` sweeps; a crash after 3 leaves the mark,
which means nothing beside an engine.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from trtd.errors import GateMissed, TrtdError
from trtd.registry.draft import Candidate, Draft, refuse_bad_names, write_draft
from trtd.registry.layout import CONFIG_FILE, PENDING_FILE, Registry
from trtd.registry.manifest import Provenance
from trtd.store.atomic import fsync_folder, fsync_tree, rename_exchange, rename_noreplace, storage_errors
from trtd.store.failpoint import failpoint
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.store.tree import files_under
from trtd.verify.report import Gate

LOCK_WAIT_S = 30.0


def publish(
    registry: Registry,
    name: str,
    files: Mapping[str, Path],
    record_files: Mapping[str, Path],
    provenance: Provenance,
    *,
    wait_s: float = LOCK_WAIT_S,
) -> int:
    """Publish an engine as the next version of ``name``.

    Args:
        registry: where to.
        name: of the engine.
        files: name in ``engines/<name>/<version>/`` → plain file to copy; one is the file that the target serves.
        record_files: name in ``records/<name>/<version>/`` → plain file to copy; ``manifest.json`` is written here.
        provenance: the rest of the manifest.
        wait_s: how long to wait for another publish, rollback or gc of this name.

    Returns:
        The new version.

    Raises:
        GateMissed: the engine is not proved, and its spec does not say ``publish.unverified``, or a gate said no.
        RegistryBusy: the name's lock was held all the time.
        RegistryError: a file cannot be published.
        StorageError: the disk refused. The versions from before are as they were.
    """
    refuse_unproved(name, provenance)
    with hold(registry.lock(name), f"publish {name}", wait_s=wait_s):
        return publish_held(registry, Candidate(name, files, record_files, provenance))


def publish_held(registry: Registry, candidate: Candidate) -> int:
    """:func:`publish` for callers that hold the name's lock and have proof of the engine."""
    refuse_bad_names(candidate)
    version = registry.next_version(candidate.name)
    with staging_folder(registry.staging, f"publish-{candidate.name}-{version}") as folder:
        draft = write_draft(folder, candidate, version)
        try:
            _place_record(registry, draft)
            _place_engine(registry, draft)
        except BaseException:
            _withdraw(registry, draft)
            raise
        with contextlib.suppress(OSError):  # The version is published: a mark that stays means nothing.
            failpoint("publish.engine-renamed")
            (registry.record(candidate.name, version) / PENDING_FILE).unlink()
            failpoint("publish.finished")
    return version


def refuse_unproved(name: str, provenance: Provenance) -> None:
    """The last door before ``engines/``: raise ``GateMissed`` for what was not measured, or was and did not do."""
    missed = [gate for gate in provenance.gates if not _holds(gate)]
    if missed:
        gate = missed[0]
        what = f"{gate.name} {gate.measured:g} is not {gate.comparison} {gate.bound:g}"
        raise GateMissed(f"{name} is not published: {what}", hint=gate.advice, where=gate.output)
    if provenance.publish_setting("unverified", False) is True:
        return
    if not provenance.gates or provenance.proof != "verified":
        what = f"it is {provenance.proof}, not verified on its target" if provenance.gates else "no gate was measured"
        hint = "build on the target, or set publish.unverified = true in the spec"
        raise GateMissed(f"{name} is not published: {what}", hint=hint)


def _holds(gate: Gate) -> bool:
    """Whether the gate says it passed and its numbers say so too; NaN never does."""
    within = gate.measured >= gate.bound if gate.comparison == ">=" else gate.measured <= gate.bound
    return gate.passed and within


def _place_record(registry: Registry, draft: Draft) -> None:
    record = registry.record(draft.manifest.name, draft.manifest.version)
    _make_folder(record.parent)
    rename_noreplace(draft.record, record)


def _place_engine(registry: Registry, draft: Draft) -> None:
    model = registry.engines / draft.manifest.name
    with storage_errors("publish the version", model):
        failpoint("publish.record-renamed")
        if not os.path.lexists(model):
            _make_folder(registry.engines)
            rename_noreplace(draft.model, model)
        elif _same_config(model, draft):
            rename_noreplace(draft.engine, model / draft.engine.name)
        else:
            _link_versions(registry, draft)
            failpoint("publish.old-linked")
            rename_exchange(draft.model, model)


def _same_config(model: Path, draft: Draft) -> bool:
    config = model / CONFIG_FILE
    return config.is_file() and not config.is_symlink() and config.read_bytes() == draft.config.read_bytes()


def _link_versions(registry: Registry, draft: Draft) -> None:
    """Give the draft the versions from before, as hard links: the same files, so no copy and no change of time."""
    for version in registry.versions(draft.manifest.name):
        old, new = registry.engine(draft.manifest.name, version), draft.model / str(version)
        for path in files_under(old):
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(old / path, new / path, follow_symlinks=False)
        fsync_tree(new)
    fsync_folder(draft.model)


def _make_folder(folder: Path) -> None:
    with storage_errors("make the folder", folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            fsync_folder(folder.parent)


def _withdraw(registry: Registry, draft: Draft) -> None:
    """Take back the record of a version that was not published after all."""
    name, version = draft.manifest.name, draft.manifest.version
    # The engine's rename may have been done and only its flush refused: then the version is published.
    if not os.path.lexists(registry.engine(name, version)):
        with contextlib.suppress(TrtdError):  # What stays is marked pending, and gc sweeps it.
            rename_noreplace(registry.record(name, version), draft.record)
