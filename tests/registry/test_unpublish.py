"""Unpublishing takes all of an engine or nothing, at every instant and whatever dies."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.registry.samples import NAME, check_whole, failpoints_in, publish_sample
from tests.store.children import run_in_child
from trtd.errors import RegistryBusy, RegistryError, StorageError
from trtd.registry.layout import PENDING_FILE, RETIRED_FILE, Registry
from trtd.registry.manifest import read_manifest
from trtd.registry.retention import gc, sweep
from trtd.registry.unpublish import unpublish
from trtd.store.failpoint import VARIABLE
from trtd.store.lock import hold

STEPS = failpoints_in("unpublish.py")
COMMITTED = "unpublish.renamed"


def publish_some(registry: Registry) -> None:
    for classes in (10, 10, 5):
        publish_sample(registry, str(classes).encode(), classes)


def test_an_engine_goes_with_all_its_versions_and_its_records_stay(registry: Registry) -> None:
    """Triton would go on serving what nobody asks for, or nobody could tell any more what was served."""
    publish_some(registry)
    publish_sample(registry, name="other")
    assert unpublish(registry, NAME) == (1, 2, 3)
    assert registry.names() == ("other",)
    assert os.listdir(registry.engines) == ["other"]
    assert registry.recorded_versions(NAME) == (1, 2, 3)
    for version in (1, 2, 3):
        assert read_manifest(registry, NAME, version).version == version
        mark = json.loads((registry.record(NAME, version) / RETIRED_FILE).read_text())
        assert mark["reason"] == "unpublished"
    assert os.listdir(registry.staging) == []
    check_whole(registry)


def test_its_numbers_stay_used(registry: Registry) -> None:
    """A client that remembers version 3 would get another engine under the same number."""
    publish_some(registry)
    unpublish(registry, NAME)
    assert publish_sample(registry) == 4
    assert unpublish(registry, NAME) == (4,)
    assert sweep(registry).items == gc(registry).items == ()
    assert publish_sample(registry) == 5
    check_whole(registry)


def test_its_numbers_stay_used_though_a_record_is_missing(registry: Registry) -> None:
    """Somebody who tidies up records/ would have numbers given twice."""
    publish_some(registry)
    (registry.records / NAME).rename(registry.root / "elsewhere")
    unpublish(registry, NAME)
    assert publish_sample(registry) == 4


def test_its_numbers_stay_used_though_a_publish_died_before(registry: Registry) -> None:
    """A mark that a crash left would have the last record swept away, and with it the number."""
    publish_sample(registry)
    assert run_in_child(lambda: publish_sample(registry), "publish.engine-renamed") == -signal.SIGKILL
    assert (registry.record(NAME, 2) / PENDING_FILE).exists()
    assert unpublish(registry, NAME) == (1, 2)
    sweep(registry)
    gc(registry)
    assert publish_sample(registry) == 3


@pytest.mark.parametrize("name", ["absent", NAME])
def test_what_is_not_published_is_nothing_to_do(registry: Registry, name: str) -> None:
    """A spec that never got as far as an engine could not be deleted."""
    publish_sample(registry, name="other")
    if name == NAME:
        publish_sample(registry)
        unpublish(registry, NAME)
    assert unpublish(registry, name) == ()
    assert registry.names() == ("other",)


def test_a_bad_name_is_refused(registry: Registry) -> None:
    """A name out of a file could lead anywhere."""
    with pytest.raises(RegistryError):
        unpublish(registry, "../specs")


def test_a_busy_engine_is_left_alone(registry: Registry) -> None:
    """An engine would vanish in the middle of being published."""
    publish_sample(registry)
    with hold(registry.lock(NAME), "publish"), pytest.raises(RegistryBusy):
        unpublish(registry, NAME, wait_s=0)
    assert registry.versions(NAME) == (1,)
    assert not (registry.record(NAME, 1) / RETIRED_FILE).exists()


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_leaves_all_of_it_or_nothing(registry: Registry, step: str) -> None:
    """Half an engine would be served."""
    publish_some(registry)
    assert run_in_child(lambda: unpublish(registry, NAME), step) == -signal.SIGKILL
    assert registry.versions(NAME) == (() if step == COMMITTED else (1, 2, 3))
    check_whole(registry)
    sweep(registry)
    assert os.listdir(registry.staging) == []
    assert unpublish(registry, NAME) == (() if step == COMMITTED else (1, 2, 3))
    assert os.listdir(registry.engines) == []
    assert publish_sample(registry) == 4
    check_whole(registry)


@pytest.mark.parametrize("step", [*STEPS, "write.written", "write.synced"])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EROFS", "EACCES"])
def test_a_refusing_disk_leaves_all_of_it_or_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str, name: str
) -> None:
    """A failing disk would end the daemon, or leave half an engine."""
    publish_some(registry)
    monkeypatch.setenv(VARIABLE, f"{step}:error={name}")
    with pytest.raises(StorageError) as caught:
        unpublish(registry, NAME)
    assert caught.value.retry == "backoff"
    monkeypatch.delenv(VARIABLE)
    assert registry.versions(NAME) == (() if step == COMMITTED else (1, 2, 3))
    check_whole(registry)
    unpublish(registry, NAME)
    assert registry.names() == ()


def test_the_steps_are_all_there() -> None:
    """The tests above are only as good as this list."""
    assert STEPS == ["unpublish.marked", COMMITTED]


def test_a_mark_of_an_unpublish_that_died_goes_when_the_engine_stays(registry: Registry) -> None:
    """A version that is there must not be said to be retired for ever."""
    publish_some(registry)
    assert run_in_child(lambda: unpublish(registry, NAME), "unpublish.marked") == -signal.SIGKILL
    gc(registry)
    assert not any((registry.record(NAME, version) / RETIRED_FILE).exists() for version in (1, 2, 3))


def test_inside_engines_there_is_nothing_but_a_rename(registry: Registry) -> None:
    """A reader would find a version whose files go one by one."""
    changes = {"os.remove": 0, "os.rmdir": 0, "os.rename": 0, "shutil.rmtree": 0, "os.mkdir": 0, "os.truncate": 0}

    def refuse(event: str, args: tuple[Any, ...]) -> None:
        if event in changes and str(args[changes[event]]).startswith(f"{registry.engines}/"):
            raise AssertionError(f"{event} {args}")

    def hooked() -> None:
        sys.addaudithook(refuse)  # hooks cannot be taken away again: hence in a child
        unpublish(registry, NAME)

    publish_some(registry)
    assert run_in_child(hooked) == 0
    assert registry.names() == ()


READER = """
import os, sys
from pathlib import Path
model, stop = Path(sys.argv[1]), Path(sys.argv[2])
print("reading", flush=True)
looks = gone = 0
while not stop.exists():
    try:
        folder = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        gone += 1
        continue
    names = sorted(os.listdir(folder))
    try:
        still = os.path.samestat(os.fstat(folder), os.stat(model))
    except FileNotFoundError:
        still = False
    os.close(folder)
    if still:  # it was in its place while it was listed
        looks += 1
        assert "config.pbtxt" in names and len(names) >= 2, names
print(looks, gone)
"""


def test_a_reader_sees_all_of_it_or_nothing(registry: Registry, tmp_path: Path) -> None:
    """Triton would load an engine without its configuration."""
    stop = tmp_path / "stop"
    publish_sample(registry)
    command = [sys.executable, "-c", READER, str(registry.engines / NAME), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for _ in range(15):
            unpublish(registry, NAME)
            publish_sample(registry)
        stop.touch()
        looks, gone = (int(word) for word in reader.stdout.readline().split())
        assert reader.wait() == 0
    assert looks > 0
    assert gone > 0


# ------------------------------------------------------------------------------------------------------- at every start


def test_a_sweep_removes_what_crashes_left_and_nothing_else(registry: Registry) -> None:
    """A daemon would start with the litter of the one before, or sweep away what is published."""
    publish_some(registry)
    publish_sample(registry, name="other")
    assert run_in_child(lambda: publish_sample(registry), "publish.synced") == -signal.SIGKILL
    assert run_in_child(lambda: publish_sample(registry, name="new"), "publish.record-renamed") == -signal.SIGKILL
    assert run_in_child(lambda: publish_sample(registry, name="done"), "publish.engine-renamed") == -signal.SIGKILL
    freed = sweep(registry)
    assert [(item.kind, item.name) for item in freed.items if item.kind == "record"] == [("record", "new@1")]
    assert len([item for item in freed.items if item.kind == "staging"]) == 3
    assert os.listdir(registry.staging) == []
    assert not (registry.record("done", 1) / PENDING_FILE).exists()
    assert registry.names() == (NAME, "done", "other")
    assert registry.recorded_names() == (NAME, "done", "new", "other")
    assert sweep(registry).items == ()
    check_whole(registry)


def test_a_sweep_waits_for_nobody(registry: Registry) -> None:
    """A publish that hangs would keep the daemon from starting, and one at work would lose its record."""
    assert run_in_child(lambda: publish_sample(registry), "publish.record-renamed") == -signal.SIGKILL
    with hold(registry.lock(NAME), "publish"):
        assert [item.kind for item in sweep(registry).items] == ["staging"]
        assert registry.recorded_versions(NAME) == (1,)
    assert [item.name for item in sweep(registry).items] == [f"{NAME}@1"]


def test_a_sweep_locks_only_what_is_marked(registry: Registry) -> None:
    """Ten thousand lock files would be made and signed at every start."""
    publish_sample(registry)
    for lock in (registry.private / "locks").iterdir():
        lock.unlink()
    sweep(registry)
    assert list((registry.private / "locks").iterdir()) == []


def test_a_disk_that_fails_during_a_sweep_is_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare OSError would read as a bug of trtd."""
    publish_sample(registry)

    def refuse(path: Any = ".") -> list[str]:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StorageError):
        sweep(registry)
