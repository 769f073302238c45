"""Completing a verification: an engine that was published unverified was judged on its device, and the record says so.

The engine itself is not touched. Its record is written anew beside the old one and swapped with it in one rename.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trtd.errors import RegistryError
from trtd.registry.layout import MANIFEST_FILE, Registry
from trtd.registry.manifest import verify_files
from trtd.registry.publish import LOCK_WAIT_S
from trtd.store.atomic import fsync_tree, rename_exchange, storage_errors
from trtd.store.failpoint import failpoint
from trtd.store.lock import hold
from trtd.store.staging import staging_folder
from trtd.store.tree import copy_file, file_facts, files_under
from trtd.verify.report import Gate


def prove(
    registry: Registry,
    name: str,
    version: int,
    record_files: Mapping[str, Path],
    gates: Sequence[Gate],
    *,
    device: str,
    wait_s: float = LOCK_WAIT_S,
) -> None:
    """Make a published version a verified one.

    Args:
        registry: where.
        name, version: of the engine.
        record_files: what is new in the record, by name: the report, and what it rests on.
        gates: as they were measured on the device, all of them passed.
        device: what it is called.
        wait_s: how long to wait for a publish, rollback or gc of this name.

    Raises:
        RegistryError: a gate was missed, or a file of the version was changed.
        RegistryBusy: the name's lock was held all the time.
        StorageError: the disk refused; the record is the old one or the new one, whole.
    """
    if not gates or not all(gate.passed for gate in gates):
        raise RegistryError(f"{name}@{version} did not pass on its device", hint=f"trtd verify {name} shows the gates")
    with hold(registry.lock(name), f"complete the verification of {name}", wait_s=wait_s):
        old = verify_files(registry, name, version)
        record = registry.record(name, version)
        with staging_folder(registry.staging, f"prove-{name}-{version}") as folder:
            draft = folder / "record"
            with storage_errors("write the record anew", draft):
                kept = {path: record / path for path in files_under(record) if path != MANIFEST_FILE}
                for path, source in (kept | dict(record_files)).items():
                    copy_file(source, draft / path)
                records = {path: file_facts(draft / path) for path in {**old.records, **record_files}}
                target = old.target.model_copy(update={"fingerprint": {**old.target.fingerprint, "device": device}})
                news = {"proof": "verified", "gates": tuple(gates), "target": target, "records": records}
                manifest = old.model_copy(update=news)
                (draft / MANIFEST_FILE).write_bytes(manifest.to_json())
                failpoint("prove.staged")
                fsync_tree(folder)
                failpoint("prove.synced")
            rename_exchange(draft, record)
            with storage_errors("complete the verification", record):
                failpoint("prove.exchanged")
