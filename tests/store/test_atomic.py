"""Writing all or nothing, renames that never replace, and the errors of a disk that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trtd.errors import RegistryError, StorageError
from trtd.store.atomic import (
    fsync_tree,
    on_one_mount,
    rename_exchange,
    rename_noreplace,
    storage_error,
    storage_errors,
    write_file,
)
from trtd.store.failpoint import VARIABLE

OTHER_MOUNT = Path("/dev/shm")


def test_write_file_replaces_the_whole_content(tmp_path: Path) -> None:
    """A shorter second write that kept the tail of the first would be a state file rewritten in place."""
    path = tmp_path / "state.json"
    write_file(path, b"a long first content")
    before = path.stat().st_ino
    write_file(path, b"short")
    assert path.read_bytes() == b"short"
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["state.json"]


def test_write_file_flushes_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any other order a power cut can leave an empty file under the final name, or the old one."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    write_file(tmp_path / "state.json", b"content")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("place", ["write.written", "write.synced"])
@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES"])
def test_a_refused_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    """A full disk must not cost the old content, and must be told as StorageError with a way out."""
    path = tmp_path / "state.json"
    write_file(path, b"old")
    monkeypatch.setenv(VARIABLE, f"{place}:error={name}")
    with pytest.raises(StorageError) as caught:
        write_file(path, b"new")
    assert caught.value.where == str(path)
    assert caught.value.hint
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_write_into_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    """A bare FileNotFoundError would reach the user as a bug."""
    with pytest.raises(StorageError, match="No such file"):
        write_file(tmp_path / "no" / "file", b"")


@pytest.mark.parametrize("kind", ["file", "empty folder", "full folder"])
def test_rename_noreplace_refuses_whatever_is_there(tmp_path: Path, kind: str) -> None:
    """Plain rename(2) would silently replace a file or an empty folder: a published version could be overwritten."""
    source, target = tmp_path / "source", tmp_path / "target"
    if kind == "file":
        source.write_text("new")
        target.write_text("old")
    else:
        source.mkdir()
        (source / "new").touch()
        target.mkdir()
        if kind == "full folder":
            (target / "old").touch()
    with pytest.raises(RegistryError, match="already there"):
        rename_noreplace(source, target)
    assert source.exists()
    assert (target.read_text() == "old") if kind == "file" else not (target / "new").exists()


def test_rename_noreplace_moves_to_a_free_name(tmp_path: Path) -> None:
    """The commit of every publish."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    rename_noreplace(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "content"
    assert not (tmp_path / "source").exists()


def test_rename_exchange_swaps_two_full_folders(tmp_path: Path) -> None:
    """If it replaced instead of swapping, the old versions would be lost."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was-{name}").touch()
    rename_exchange(tmp_path / "one", tmp_path / "other")
    assert os.listdir(tmp_path / "one") == ["was-other"]
    assert os.listdir(tmp_path / "other") == ["was-one"]


def test_rename_exchange_needs_both_ends(tmp_path: Path) -> None:
    """An exchange that fell back to a plain rename would hide a vanished folder."""
    (tmp_path / "one").mkdir()
    with pytest.raises(StorageError):
        rename_exchange(tmp_path / "one", tmp_path / "other")


@pytest.mark.skipif(not OTHER_MOUNT.is_dir(), reason="needs a second mount")
def test_a_rename_across_mounts_fails_and_copies_nothing(tmp_path: Path) -> None:
    """Copying instead would make a publish visible half."""
    if on_one_mount(tmp_path, OTHER_MOUNT):
        pytest.skip("the temporary folder lies on /dev/shm")
    source, target = tmp_path / "source", OTHER_MOUNT / f"trtd-test-{os.getpid()}"
    source.mkdir()
    for rename in (rename_noreplace, rename_exchange):
        if rename is rename_exchange:
            target.mkdir()
        try:
            with pytest.raises(StorageError, match="different mounts") as caught:
                rename(source, target)
        finally:
            existed = target.exists()
            if existed:
                target.rmdir()
        assert "one mount" in caught.value.hint
        assert source.is_dir()
        assert existed == (rename is rename_exchange)


def test_two_folders_of_one_mount_are_on_one_mount(tmp_path: Path) -> None:
    """A false alarm here would refuse every registry."""
    (tmp_path / "inner").mkdir()
    assert on_one_mount(tmp_path, tmp_path / "inner")


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.ENOSPC, StorageError, "full"),
        (errno.EDQUOT, StorageError, "quota"),
        (errno.EROFS, StorageError, "read-only"),
        (errno.EIO, StorageError, "failed"),
        (errno.EACCES, StorageError, "permission"),
        (errno.EPERM, StorageError, "permitted"),
        (errno.EXDEV, StorageError, "mounts"),
        (errno.EEXIST, RegistryError, "already there"),
        (errno.ENOTEMPTY, RegistryError, "already there"),
        (errno.EISDIR, StorageError, "directory"),
    ],
)
def test_every_errno_says_what_where_and_what_next(number: int, kind: type[Exception], word: str) -> None:
    """An unmapped errno would end as a traceback, or as an error that a daemon retries forever for the wrong reason."""
    error = storage_error(OSError(number, os.strerror(number)), "publish it", Path("/r/engines"))
    assert type(error) is kind
    assert word in error.message
    assert "publish it" in error.message
    assert error.where == "/r/engines"
    assert error.hint


def test_other_exceptions_pass_through() -> None:
    """Mapping a programming error to a storage error would hide it."""
    with pytest.raises(ValueError, match="bug"), storage_errors("do it", "/"):
        raise ValueError("bug")


def test_fsync_tree_passes_over_symlinks(tmp_path: Path) -> None:
    """A dangling symlink in a tree must not stop the flush, nor a symlink loop hang it."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("content")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    fsync_tree(tmp_path)
