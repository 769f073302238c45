"""Staging folders go with their owner, and a sweep never takes a living owner's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.store.children import fork, run_in_child
from trtd.errors import StorageError
from trtd.store.process import is_alive, start_ticks
from trtd.store.staging import staging_folder, sweep


def leave_orphan(root: Path) -> None:
    """A child stages a file and dies of SIGKILL."""

    def stage_and_die() -> None:
        with staging_folder(root, "orphan") as folder:
            (folder / "half").write_bytes(b"12345")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(stage_and_die) == -signal.SIGKILL


def test_the_folder_goes_with_the_context(tmp_path: Path) -> None:
    """Left-overs of failed stages would fill the disk."""

    def failing_work() -> None:
        with staging_folder(tmp_path, "work") as folder:
            (folder / "half").touch()
            raise ValueError("work failed")

    with pytest.raises(ValueError, match="work failed"):
        failing_work()
    assert os.listdir(tmp_path) == []


def test_sweep_takes_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    """Taking a living owner's folder would break a running build; leaving the dead's fills the disk."""
    leave_orphan(tmp_path)
    (tmp_path / "not-ours").mkdir()
    with staging_folder(tmp_path, "mine") as mine:
        planned = sweep(tmp_path, dry_run=True)
        removed = sweep(tmp_path)
        assert planned == removed
        assert list(removed.values()) == [5]
        assert sorted(os.listdir(tmp_path)) == sorted([mine.name, "not-ours"])


def test_a_reused_process_number_does_not_keep_an_orphan(tmp_path: Path) -> None:
    """The number alone is not enough: this very process could be taken for the owner for as long as it runs."""
    started = start_ticks(os.getpid())
    assert started is not None
    orphan = tmp_path / f"{os.getpid()}-{started - 1}-0123456789ab-work"
    orphan.mkdir()
    assert list(sweep(tmp_path)) == [orphan.name]


def test_a_folder_that_its_living_owner_has_not_locked_yet_stays(tmp_path: Path) -> None:
    """Between making the folder and locking it, its name alone protects it."""
    started = start_ticks(os.getpid())
    (tmp_path / f"{os.getpid()}-{started}-0123456789ab-work").mkdir()
    assert sweep(tmp_path) == {}


def test_an_owner_that_proc_does_not_show_keeps_its_folder(tmp_path: Path) -> None:
    """In another container the owner's number means nothing here; its lock on the folder still does."""
    with staging_folder(tmp_path, "work") as folder:
        disguised = folder.rename(tmp_path / "999999999-1-0123456789ab-work")
        assert sweep(tmp_path) == {}
        assert disguised.is_dir()
    assert list(sweep(tmp_path)) == [disguised.name]


def test_a_registry_that_was_moved_away_is_not_made_anew(tmp_path: Path) -> None:
    """A build that still runs would put an empty registry in its place, and it would be moved back into that one."""
    with pytest.raises(StorageError), staging_folder(tmp_path / "registry" / ".trtd" / "staging", "work"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_zombie_is_dead() -> None:
    """A killed worker that nobody has waited for yet still has a number."""
    child = fork(signal.pause)
    started = start_ticks(child)
    assert started is not None
    assert is_alive(child, started)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child, started)
    os.waitpid(child, 0)


def test_sweep_of_a_root_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    """gc on a fresh registry must not fail."""
    assert sweep(tmp_path / "missing") == {}
