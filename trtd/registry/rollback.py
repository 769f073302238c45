"""Rolling back: an older engine is published again, as a new version. Nothing moves backward."""

from __future__ import annotations

import contextlib

from trtd.errors import RegistryError
from trtd.registry.draft import Candidate
from trtd.registry.layout import Registry
from trtd.registry.lookup import find_version
from trtd.registry.manifest import read_manifest, verify_files
from trtd.registry.publish import LOCK_WAIT_S, publish_held
from trtd.store.lock import hold
from trtd.store.tree import Inventory


def rollback(registry: Registry, name: str, version: int | None = None, *, wait_s: float = LOCK_WAIT_S) -> int:
    """Publish the engine of an older version again, after hashing all its files.

    Args:
        registry: where.
        name: of the engine.
        version: the older one; ``None`` for the newest whose engine is not the live one's.
        wait_s: how long to wait for another publish, rollback or gc of this name.

    Returns:
        The new version; its manifest says ``rolled_back_from``.

    Raises:
        RegistryError: there is no such version, it is live already, or one of its files was changed.
        RegistryBusy: the name's lock was held all the time.
        StorageError: the disk refused. The versions from before are as they were.
    """
    find_version(registry, name)  # A name that nobody has is told before a lock file is made for it.
    with hold(registry.lock(name), f"roll back {name}", wait_s=wait_s):
        live = find_version(registry, name)
        wanted = _default(registry, name, live) if version is None else find_version(registry, name, version)
        if wanted == live:
            hint = f"`trtd show {name}` lists the versions; name an older one, or none for the one before"
            raise RegistryError(f"{name}@{live} is live already", hint=hint, where=str(registry.engine(name, live)))
        old = verify_files(registry, name, wanted)
        engine, record = registry.engine(name, wanted), registry.record(name, wanted)
        candidate = Candidate(
            name,
            files={path: engine / path for path in old.files},
            record_files={path: record / path for path in old.records},
            provenance=old.provenance().model_copy(update={"rolled_back_from": wanted}),
        )
        return publish_held(registry, candidate)


def _default(registry: Registry, name: str, live: int) -> int:
    """The newest version whose files are not those that the live one was published with."""
    live_files = _files(registry, name, live)
    for version in reversed(registry.versions(name)):
        files = _files(registry, name, version)
        if version < live and files is not None and files != live_files:
            return version
    hint = "gc may have removed the older ones; raise publish.keep in the spec to keep more, or build again"
    raise RegistryError(f"{name} has no older version with another engine than the live one", hint=hint)


def _files(registry: Registry, name: str, version: int) -> Inventory | None:
    """``None`` for a torn manifest: away from such a version is where a rollback must be able to lead."""
    with contextlib.suppress(RegistryError):
        return read_manifest(registry, name, version).files
    return None
