"""Unpublishing: an engine goes out of ``engines/`` with all its versions, by one rename. Its records stay."""

from __future__ import annotations

from pathlib import Path

from trtd.registry.layout import Registry
from trtd.registry.publish import LOCK_WAIT_S
from trtd.registry.retention import mark_retired, sweep_records
from trtd.store.atomic import fsync_folder, rename_noreplace, storage_errors
from trtd.store.failpoint import failpoint
from trtd.store.lock import hold
from trtd.store.staging import staging_folder


def unpublish(registry: Registry, name: str, *, wait_s: float = LOCK_WAIT_S) -> tuple[int, ...]:
    """Take an engine out of ``engines/``. A reader sees all of it or nothing; its version numbers stay used.

    After a crash on the way the engine is there as before, or gone; calling this again completes what was begun.

    Args:
        registry: where.
        name: of the engine.
        wait_s: how long to wait for a publish, rollback or gc of this name.

    Returns:
        The versions that were published; none if there was nothing to do.

    Raises:
        RegistryError: this cannot be a name.
        RegistryBusy: the name's lock was held all the time.
        StorageError: the disk refused; the engine is whole, there or gone.
    """
    if not registry.versions(name):  # told before a lock file is made
        return ()
    with hold(registry.lock(name), f"unpublish {name}", wait_s=wait_s):
        # First: a mark that a crash left on a published version would later have its record, and number, swept away.
        sweep_records(registry, name)
        versions = registry.versions(name)
        if not versions:
            return ()
        folder = registry.engines / name
        with storage_errors("unpublish the engine", folder):
            _keep_number(registry.record(name, versions[-1]))
            for version in versions:
                mark_retired(registry, name, version, reason="unpublished")
            failpoint("unpublish.marked")
            with staging_folder(registry.staging, f"unpublish-{name}") as trash:
                rename_noreplace(folder, trash / "engine")
                failpoint("unpublish.renamed")
    return versions


def _keep_number(record: Path) -> None:
    """Make sure that the highest version has a record: without one, its number would be free again."""
    if not record.is_dir():
        record.mkdir(parents=True)
        fsync_folder(record.parent)
