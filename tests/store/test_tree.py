"""Inventories name every file, and differences name the first that differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trtd.store.tree import copy_file, difference, file_facts, files_under, read_inventory, tree_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, one of them deeper."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "inner" / "weights").write_bytes(b"weights")
    return folder


def test_an_untouched_folder_does_not_differ(folder: Path) -> None:
    """A false difference would throw away good entries and refuse good versions."""
    inventory = read_inventory(folder)
    assert list(inventory) == ["inner/weights", "model.onnx"]
    assert difference(folder, inventory, rehash=True, from_disk=True) is None
    assert tree_bytes(folder) == len(b"model") + len(b"weights")


@pytest.mark.parametrize("change", ["gone", "longer", "flipped", "symlink", "extra", "pipe"])
def test_every_change_is_found_and_named(folder: Path, change: str) -> None:
    """A change that goes unseen is a torn engine that gets served."""
    inventory = read_inventory(folder)
    victim = folder / "inner" / "weights"
    named = "inner/weights"
    if change == "gone":
        victim.unlink()
    elif change == "longer":
        victim.write_bytes(b"weights!")
    elif change == "flipped":
        victim.write_bytes(b"Weights")
        assert difference(folder, inventory, rehash=False) is None
    elif change == "symlink":
        victim.rename(folder.parent / "elsewhere")
        victim.symlink_to(folder.parent / "elsewhere")
    elif change == "pipe":
        victim.unlink()
        os.mkfifo(victim)
    else:
        named = "inner/stray"
        (folder / named).touch()
    found = difference(folder, inventory, rehash=True)
    assert found is not None
    assert named in found


def test_a_missing_folder_misses_every_file(folder: Path) -> None:
    """It must not pass as a folder in which nothing differs."""
    assert difference(folder / "missing", read_inventory(folder), rehash=False) == "inner/weights is missing"


def test_files_under_does_not_follow_symlinks(folder: Path) -> None:
    """A link to / would put the whole machine into an inventory."""
    (folder / "link").symlink_to("/")
    assert list(files_under(folder)) == ["inner/weights", "link", "model.onnx"]


def test_copy_file_gives_the_facts_of_what_it_copied(folder: Path, tmp_path: Path) -> None:
    """The manifest's digest must be of the bytes that were read, and the copy must not keep an old time."""
    os.utime(folder / "model.onnx", (1, 1))
    facts = copy_file(folder / "model.onnx", tmp_path / "new" / "copy")
    assert facts == file_facts(folder / "model.onnx") == file_facts(tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").stat().st_mtime > 1


@pytest.mark.parametrize("kind", ["symlink", "folder", "pipe"])
def test_copy_file_takes_plain_files_only(tmp_path: Path, kind: str) -> None:
    """A symlink could point outside; opening a pipe would hang."""
    source = tmp_path / "source"
    if kind == "symlink":
        source.symlink_to("/etc/hostname")
    elif kind == "folder":
        source.mkdir()
    else:
        os.mkfifo(source)
    assert copy_file(source, tmp_path / "target") is None
    assert not (tmp_path / "target").exists()
