"""kill -9 and a refusing disk at every step of publish, rollback and gc."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtd.registry.publish
import trtd.store.atomic
from tests.registry.samples import (
    NAME,
    check_whole,
    content_of,
    failpoints_in,
    publish_sample,
)
from tests.store.children import run_in_child
from trtd.errors import StorageError
from trtd.registry.layout import PENDING_FILE, Registry
from trtd.registry.lookup import current
from trtd.registry.retention import gc
from trtd.registry.rollback import rollback
from trtd.store.atomic import rename_noreplace
from trtd.store.failpoint import VARIABLE

STEPS = failpoints_in("draft.py", "publish.py")
COMMITTED = ("publish.engine-renamed", "publish.finished")
ONLY_ON_CHANGE = "publish.old-linked"
GC_STEPS = failpoints_in("retention.py")

# What was published before, and what is being published now.
SITUATIONS: dict[str, tuple[int, Callable[[Registry], int]]] = {
    "first": (0, publish_sample),
    "same configuration": (2, lambda registry: publish_sample(registry, b"new")),
    "other configuration": (2, lambda registry: publish_sample(registry, b"new", classes=5)),
    "rollback": (2, lambda registry: rollback(registry, NAME)),
}


def prepared(registry: Registry, situation: str) -> tuple[int, Callable[[Registry], int]]:
    """Publish what was there before; how many versions that is, and the action to interrupt."""
    before, action = SITUATIONS[situation]
    for version in range(1, before + 1):
        publish_sample(registry, f"engine {version}".encode())
    return before, action


def test_the_steps_are_all_there() -> None:
    """The tests below are only as good as this list."""
    assert set(COMMITTED) < set(STEPS)
    assert len(STEPS) >= 7
    assert len(GC_STEPS) >= 2


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("step", STEPS)
def test_kill_9_leaves_whole_versions_and_the_next_publish_goes_on(
    registry: Registry, situation: str, step: str
) -> None:
    """Whatever dies, a version is complete or absent, its number is not given twice, and the litter can be swept."""
    before, action = prepared(registry, situation)
    code = run_in_child(lambda: action(registry), step)
    reached = step != ONLY_ON_CHANGE or situation == "other configuration"
    assert code == (-signal.SIGKILL if reached else 0)
    published = before + 1 if step in COMMITTED or not reached else before
    assert registry.versions(NAME) == tuple(range(1, published + 1))
    check_whole(registry)
    if before:
        assert current(registry, NAME)[0].version == published
    number = publish_sample(registry, b"next")
    assert number == 1 + max(published, *registry.recorded_versions(NAME)[:-1], 0)
    freed = gc(registry, keep=100)
    assert os.listdir(registry.staging) == []
    assert {item.kind for item in freed.items} <= {"staging", "record"}
    for version in registry.recorded_versions(NAME):
        assert not (registry.record(NAME, version) / PENDING_FILE).exists()
    assert registry.recorded_versions(NAME) == registry.versions(NAME)
    check_whole(registry)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_a_refusing_disk_leaves_the_old_version_whole_and_no_litter(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, situation: str, step: str, name: str
) -> None:
    """A full disk before the commit is an error with nothing changed; after it, the version is published."""
    before, action = prepared(registry, situation)
    monkeypatch.setenv(VARIABLE, f"{step}:error={name}")
    succeeds = step in COMMITTED or (step == ONLY_ON_CHANGE and situation != "other configuration")
    if succeeds:
        assert action(registry) == before + 1
    else:
        with pytest.raises(StorageError) as caught:
            action(registry)
        assert caught.value.retry == "backoff"
        assert registry.recorded_versions(NAME) == tuple(range(1, before + 1))
    monkeypatch.delenv(VARIABLE)
    assert registry.versions(NAME) == tuple(range(1, before + 1 + succeeds))
    assert os.listdir(registry.staging) == []
    check_whole(registry)
    assert publish_sample(registry, b"next") == before + 1 + succeeds


def test_a_flush_that_fails_after_the_commit_leaves_the_version_its_record(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking the record back then would leave a published engine that nobody can account for."""
    publish_sample(registry, b"old")
    flush = trtd.store.atomic.fsync_folder

    def failing(folder: Path) -> None:
        if folder == registry.engines / NAME:
            raise StorageError("the disk failed")
        flush(folder)

    monkeypatch.setattr(trtd.store.atomic, "fsync_folder", failing)
    with pytest.raises(StorageError, match="the disk failed"):
        publish_sample(registry, b"new")
    assert registry.versions(NAME) == (1, 2)
    check_whole(registry)


def test_everything_is_flushed_before_it_is_renamed_in(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the rename must not find a published file without its bytes."""
    steps: list[str] = []
    fsync, rename = os.fsync, rename_noreplace

    def logged_fsync(descriptor: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def logged_rename(source: Path, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    publish_sample(registry)
    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(trtd.registry.publish, "rename_noreplace", logged_rename)
    publish_sample(registry)
    record, engine = (at for at, step in enumerate(steps) if step == "rename")
    assert {"model.onnx", "weights", "data", "2", "config.pbtxt", "manifest.json", "report.json"} <= set(steps[:record])
    assert NAME in steps[record:engine], "the record's name is not on the disk before the engine's"
    assert NAME in steps[engine:]


# Python's audit events for what changes a folder, and which argument names the place.
CHANGES = {
    "os.link": 1,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 0,
    "os.rmdir": 0,
    "os.truncate": 0,
    "os.utime": 0,
    "shutil.rmtree": 0,
}


def test_inside_engines_there_is_nothing_but_renames(registry: Registry) -> None:
    """A file written or removed in place is half a version for as long as it takes."""

    def refuse(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[2], int):
            touched = args[0] if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else None
        else:
            touched = args[CHANGES[event]] if event in CHANGES else None
        if str(touched).startswith(f"{registry.engines}/"):
            raise AssertionError(f"{event} {args}")

    def everything() -> None:
        sys.addaudithook(refuse)  # Hooks cannot be taken away again: hence in a child.
        for classes in (10, 10, 5, 5):
            publish_sample(registry, str(classes).encode(), classes)
        rollback(registry, NAME)
        gc(registry, keep=1)

    assert run_in_child(everything) == 0
    assert registry.versions(NAME) == (5,)


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EPERM"])
def test_every_refusal_while_staging_is_a_storage_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Any of them as a bare OSError would read as a bug of trtd."""
    publish_sample(registry, b"old")
    monkeypatch.setenv(VARIABLE, f"publish.staged:error={name}")
    with pytest.raises(StorageError):
        publish_sample(registry, b"new")
    assert content_of(registry, 1) == b"old"
    check_whole(registry)


@pytest.mark.parametrize("step", GC_STEPS)
def test_kill_9_during_gc_removes_a_version_wholly_or_not_at_all(registry: Registry, step: str) -> None:
    """A half deleted version in engines/ would be loaded by Triton."""
    for version in range(1, 5):
        publish_sample(registry, f"engine {version}".encode())
    assert run_in_child(lambda: gc(registry, keep=1), step) == -signal.SIGKILL
    check_whole(registry)
    assert current(registry, NAME)[0].version == 4
    gc(registry, keep=1)
    assert registry.versions(NAME) == (4,)
    assert registry.recorded_versions(NAME) == (1, 2, 3, 4)
    assert os.listdir(registry.staging) == []
    check_whole(registry)


@pytest.mark.parametrize("step", GC_STEPS)
def test_a_refusing_disk_during_gc_keeps_the_rest_whole(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """gc is what one runs when the disk is full."""
    for version in range(1, 4):
        publish_sample(registry, f"engine {version}".encode())
    monkeypatch.setenv(VARIABLE, f"{step}:error=ENOSPC")
    with pytest.raises(StorageError):
        gc(registry, keep=1)
    monkeypatch.delenv(VARIABLE)
    check_whole(registry)
    assert current(registry, NAME)[0].version == 3


def test_a_mark_from_a_crashed_gc_goes_when_the_version_is_kept_after_all(registry: Registry) -> None:
    """A version that is there must not be said to be retired."""
    for version in range(1, 4):
        publish_sample(registry, f"engine {version}".encode())
    assert run_in_child(lambda: gc(registry, keep=1), "gc.marked") == -signal.SIGKILL
    assert (registry.record(NAME, 1) / "retired.json").exists()
    gc(registry, keep=3)
    assert not (registry.record(NAME, 1) / "retired.json").exists()
    assert registry.versions(NAME) == (1, 2, 3)
