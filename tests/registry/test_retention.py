"""gc takes what retention says, never the live version, and tells what it freed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.registry.samples import NAME, check_whole, provenance, publish_sample
from tests.store.children import run_in_child
from trtd.errors import UsageError
from trtd.registry.layout import Registry
from trtd.registry.publish import publish
from trtd.registry.retention import gc
from trtd.store.digest import json_digest
from trtd.store.tree import tree_bytes


def publish_many(registry: Registry, count: int, name: str = NAME) -> None:
    for version in range(1, count + 1):
        publish_sample(registry, f"engine {version}".encode(), name=name)


def size_of(registry: Registry) -> int:
    """Bytes of everything but the lock files, which every holder signs anew."""
    return tree_bytes(registry.root) - tree_bytes(registry.private / "locks")


def test_the_newest_stay_and_the_records_of_all(registry: Registry) -> None:
    """The record says what a removed version was; its number must stay used."""
    publish_many(registry, 5)
    freed = gc(registry)
    assert registry.versions(NAME) == (3, 4, 5)
    assert [item.name for item in freed.items] == [f"{NAME}@1", f"{NAME}@2"]
    assert registry.recorded_versions(NAME) == (1, 2, 3, 4, 5)
    assert json.loads((registry.record(NAME, 1) / "retired.json").read_text())["keep"] == 3
    assert not (registry.record(NAME, 3) / "retired.json").exists()
    assert publish_sample(registry) == 6
    assert os.listdir(registry.staging) == []
    check_whole(registry)


def test_keep_is_taken_from_the_live_versions_spec(registry: Registry, tmp_path: Path) -> None:
    """The author's word counts, and the newest word of it."""
    publish_many(registry, 4)
    source = tmp_path / "model.onnx"
    source.write_bytes(b"engine")
    publish(registry, NAME, {"model.onnx": source}, {}, provenance(spec={"publish": {"keep": 2}}))
    gc(registry)
    assert registry.versions(NAME) == (4, 5)


@pytest.mark.parametrize("keep", [1, {NAME: 1}, {NAME: 1, "unknown": 2}])
def test_keep_can_be_given(registry: Registry, keep: int | dict[str, int]) -> None:
    """For all names, or by name; a name left out follows its spec."""
    publish_many(registry, 4)
    publish_many(registry, 4, "other")
    gc(registry, keep=keep)
    assert registry.versions(NAME) == (4,)
    assert registry.versions("other") == ((4,) if keep == 1 else (2, 3, 4))


@pytest.mark.parametrize("keep", [0, -1, {NAME: 0}])
def test_the_live_version_cannot_be_removed(registry: Registry, keep: int | dict[str, int]) -> None:
    """`--keep 0` would take the engine that is being served."""
    publish_many(registry, 2)
    with pytest.raises(UsageError):
        gc(registry, keep=keep)
    assert registry.versions(NAME) == (1, 2)


def test_a_torn_live_manifest_keeps_the_default_number(registry: Registry) -> None:
    """gc must still work, and not take more than it would otherwise."""
    publish_many(registry, 5)
    (registry.record(NAME, 5) / "manifest.json").write_bytes(b"")
    gc(registry)
    assert registry.versions(NAME) == (3, 4, 5)


def test_a_dry_run_tells_the_same_and_removes_nothing(registry: Registry) -> None:
    """What it announces must be what it does, to the byte."""
    publish_many(registry, 5)
    key = json_digest("unused")
    with registry.store.staging(key) as folder:
        (folder / "file").write_bytes(b"cached")
        output = registry.store.commit(key, folder)
    os.utime(output.parent / "inventory.json", (1, 1))
    run_in_child(lambda: publish_sample(registry), "publish.synced")
    run_in_child(lambda: publish_sample(registry), "publish.record-renamed")
    size = size_of(registry)
    planned = gc(registry, dry_run=True)
    assert size_of(registry) == size
    freed = gc(registry)
    assert freed.items == planned.items
    assert [item.kind for item in freed.items] == ["record"] + ["version"] * 2 + ["staging"] * 2 + ["store"]
    marks = sum((registry.record(NAME, version) / "retired.json").stat().st_size for version in (1, 2))
    assert size - size_of(registry) + marks == freed.bytes == planned.bytes
    assert gc(registry).items == ()


def test_the_record_of_an_engine_deleted_by_hand_stays(registry: Registry) -> None:
    """It is no crash's left-over; without it the number would be given to another engine."""
    publish_many(registry, 2)
    trash = registry.root / "trash"
    registry.engine(NAME, 2).rename(trash)
    gc(registry)
    assert registry.recorded_versions(NAME) == (1, 2)
    assert publish_sample(registry) == 3


def test_a_crashed_version_that_is_retired_at_once_keeps_its_record(registry: Registry) -> None:
    """Published, still marked pending, and already old: its record is not that of a version that never was."""
    assert run_in_child(lambda: publish_sample(registry), "publish.engine-renamed") == -signal.SIGKILL
    publish_sample(registry)
    assert [item.kind for item in gc(registry, keep=1).items] == ["version", "staging"]
    assert (registry.record(NAME, 1) / "retired.json").exists()


def test_a_pending_mark_of_a_published_version_goes(registry: Registry) -> None:
    """Were the engine deleted by hand later, its record would be taken for a crash's."""
    assert run_in_child(lambda: publish_sample(registry), "publish.engine-renamed") == -signal.SIGKILL
    assert (registry.record(NAME, 1) / "pending").exists()
    gc(registry)
    assert not (registry.record(NAME, 1) / "pending").exists()
    check_whole(registry)


def test_gc_of_an_empty_registry_frees_nothing(registry: Registry) -> None:
    """A fresh registry must not make it fail."""
    assert gc(registry).items == ()
    assert gc(registry).bytes == 0
