"""Retention: which versions stay, and what else can go."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Literal

from trtd.document import Document
from trtd.errors import RegistryBusy, RegistryError, UsageError
from trtd.registry.layout import PENDING_FILE, RETIRED_FILE, Registry
from trtd.registry.manifest import read_manifest
from trtd.registry.note import leave_note
from trtd.registry.publish import LOCK_WAIT_S
from trtd.store.atomic import rename_noreplace, storage_errors
from trtd.store.failpoint import failpoint
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.store.tree import tree_bytes

DEFAULT_KEEP = 3
DEFAULT_UNUSED_DAYS = 30.0


class FreedItem(Document):
    """One thing that gc removed, or would remove.

    Attributes:
        kind: ``version`` (a published engine), ``record`` (of a version that a crash kept from being published),
            ``store`` (a cached stage output) or ``staging`` (what a dead process left).
        name: ``<engine>@<version>``, the store's key, or the staging folder's name.
        bytes: that it held.
    """

    kind: Literal["version", "record", "store", "staging"]
    name: str
    bytes: int


class Freed(Document):
    """What one gc removed, or with ``dry_run`` would remove."""

    dry_run: bool
    items: tuple[FreedItem, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


def gc(
    registry: Registry,
    *,
    keep: int | Mapping[str, int] | None = None,
    unused_days: float = DEFAULT_UNUSED_DAYS,
    dry_run: bool = False,
    wait_s: float = LOCK_WAIT_S,
) -> Freed:
    """Remove old versions, unused store entries and what crashes left. The live version of a name always stays.

    Args:
        registry: where.
        keep: how many of the newest versions stay, for all names or by name; where it says nothing, ``publish.keep``
            in the spec of the live version holds.
        unused_days: store entries that nobody asked for within this time go.
        dry_run: remove nothing, only tell.
        wait_s: how long to wait, per name, for a publish or rollback.

    Raises:
        UsageError: a ``keep`` below 1, which would remove the live version, or ``unused_days`` below 0.
        RegistryBusy: a name's lock was held all the time.
        StorageError: the disk refused; what was not yet removed is whole.
    """
    numbers = [keep] if isinstance(keep, int) else list((keep or {}).values())
    if any(number < 1 for number in numbers) or unused_days < 0:
        raise UsageError("gc must keep at least 1 version and count days from 0", hint="use --keep 1 or more")
    items: list[FreedItem] = []
    for name in sorted({*registry.names(), *registry.recorded_names()}):
        with hold(registry.lock(name), f"collect garbage of {name}", wait_s=wait_s):
            # Records first: a mark that a crash left on a published version must be gone before the version is.
            items += sweep_records(registry, name, dry_run)
            items += _retire_old(registry, name, _keep(registry, name, keep), dry_run)
    items += [_item("staging", name, size) for name, size in registry.store.sweep(dry_run=dry_run).items()]
    expired = registry.store.expire(unused_days, dry_run=dry_run)
    items += [_item("store", key, size) for key, size in expired.items()]
    return Freed(dry_run=dry_run, items=tuple(items))


def _item(kind: Literal["version", "record", "store", "staging"], name: str, size: int) -> FreedItem:
    return FreedItem(kind=kind, name=name, bytes=size)


def _keep(registry: Registry, name: str, keep: int | Mapping[str, int] | None) -> int:
    if isinstance(keep, int):
        return keep
    if keep is not None and name in keep:
        return keep[name]
    live = registry.latest(name)
    if live is None:
        return DEFAULT_KEEP
    try:
        wanted = read_manifest(registry, name, live).publish_setting("keep", DEFAULT_KEEP)
    except RegistryError:  # A torn manifest says nothing about the other versions; keep as many as by default.
        return DEFAULT_KEEP
    return max(1, wanted) if isinstance(wanted, int) else DEFAULT_KEEP


def _retire_old(registry: Registry, name: str, keep: int, dry_run: bool) -> list[FreedItem]:
    versions = registry.versions(name)
    kept, old = versions[-keep:], versions[:-keep]
    items = [_item("version", f"{name}@{version}", tree_bytes(registry.engine(name, version))) for version in old]
    if dry_run:
        return items
    for version in kept:  # A gc that died after writing the mark, and now more are to be kept than then.
        with storage_errors("unmark the record", registry.record(name, version)):
            (registry.record(name, version) / RETIRED_FILE).unlink(missing_ok=True)
    for version in old:
        _retire(registry, name, version, keep)
    return items


def _retire(registry: Registry, name: str, version: int, keep: int) -> None:
    """Mark the record, take the engine out by one rename, and only then delete it file by file."""
    engine = registry.engine(name, version)
    with storage_errors("remove the old version", engine):
        mark_retired(registry, name, version, keep=keep)
        failpoint("gc.marked")
        with staging_folder(registry.staging, f"gc-{name}-{version}") as trash:
            rename_noreplace(engine, trash / "engine")
            failpoint("gc.renamed")


def mark_retired(registry: Registry, name: str, version: int, **why: int | str) -> None:
    """Say in a version's record, if it has one, that its engine is removed on purpose, and why. Hold the name's lock.

    Raises:
        StorageError: the disk refused.
    """
    record = registry.record(name, version)
    if record.is_dir():
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        leave_note(registry, name, version, RETIRED_FILE, json.dumps({"retired": now, **why}).encode())


def sweep(registry: Registry) -> Freed:
    """Remove what crashes left: staging folders of dead processes, and records of versions that were never published.

    Cheap enough for every start: only names with a mark that a crash may have left are locked, and what is busy is
    left for next time.

    Raises:
        StorageError: the disk refused.
    """
    items: list[FreedItem] = []
    for name in registry.recorded_names():
        if _has_pending(registry, name):
            with suppress(RegistryBusy), hold(registry.lock(name), f"sweep up after {name}"):
                items += sweep_records(registry, name)
    items += [_item("staging", name, size) for name, size in registry.store.sweep().items()]
    return Freed(dry_run=False, items=tuple(items))


def _has_pending(registry: Registry, name: str) -> bool:
    folder = registry.records / name
    with storage_errors("look through the records", folder), suppress(FileNotFoundError):
        return any(os.path.exists(f"{folder}/{version}/{PENDING_FILE}") for version in os.listdir(folder))
    return False


def sweep_records(registry: Registry, name: str, dry_run: bool = False) -> list[FreedItem]:
    """Remove records that a publish placed before it died. Those whose engine somebody deleted by hand stay.

    Hold the name's lock.
    """
    published = set(registry.versions(name))
    items = []
    for version in registry.recorded_versions(name):
        record = registry.record(name, version)
        if not (record / PENDING_FILE).exists():
            continue
        if version not in published:
            items.append(_item("record", f"{name}@{version}", tree_bytes(record)))
        if not dry_run:
            _settle(registry, name, version, published=version in published)
    return items


def _settle(registry: Registry, name: str, version: int, *, published: bool) -> None:
    record = registry.record(name, version)
    with storage_errors("settle the record", record):
        if published:
            (record / PENDING_FILE).unlink()
            return
        with staging_folder(registry.staging, f"gc-{name}-{version}") as trash:
            rename_noreplace(record, trash / "record")
