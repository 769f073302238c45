"""Notes in a version's record that its manifest does not know: what it was made from, that it was retired."""

from __future__ import annotations

from trtd.registry.layout import Registry
from trtd.store.atomic import write_file
from trtd.store.staging import staging_folder


def leave_note(registry: Registry, name: str, version: int, file: str, data: bytes) -> None:
    """Put a file into a version's record, replacing what is there, all or nothing.

    Written beside its place, it would leave litter in the record of whoever is killed meanwhile: a torn version.

    Raises:
        StorageError: the disk refused, and the record is as it was.
    """
    with staging_folder(registry.staging, f"note-{name}-{version}") as folder:
        write_file(registry.record(name, version) / file, data, by_way_of=folder)
