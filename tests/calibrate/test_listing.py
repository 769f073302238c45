"""Which files are data: what is named, nothing else, and nothing left out in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trtd.calibrate.listing import list_files
from trtd.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_is_sorted_flat_and_says_what_it_ignores(tmp_path: Path) -> None:
    """Order decides nothing else on another file system; labels and notes beside the images are no images."""
    touch(tmp_path, "b.PNG", "a.jpeg", "c.webp", "labels.txt", "coco.json", ".DS_Store", "Thumbs.db", "sub/d.png")
    listing = list_files(str(tmp_path))
    assert (listing.files, listing.kind, listing.single) == (("a.jpeg", "b.PNG", "c.webp"), "image", False)
    assert listing.ignored == (".DS_Store", "Thumbs.db", "coco.json", "labels.txt", "sub/")


def test_a_glob_descends_only_with_two_stars(tmp_path: Path) -> None:
    """Pages of another set in a subfolder must not slip in unasked."""
    touch(tmp_path, "a.png", "sub/b.png", "sub/deep/c.png", ".hidden/d.png", "e.txt")
    assert list_files(f"{tmp_path}/*.png").files == ("a.png",)
    assert list_files(f"{tmp_path}/**/*.png").files == ("a.png", "sub/b.png", "sub/deep/c.png")
    nested = list_files(f"{tmp_path}/s*/*.png")
    assert (nested.root, nested.files) == (tmp_path, ("sub/b.png",))


def test_a_name_with_brackets_is_taken_as_it_stands(tmp_path: Path) -> None:
    """A folder really called ``data[1]`` is no pattern."""
    assert list_files(str(touch(tmp_path / "data[1]", "a.npy"))).files == ("a.npy",)


def test_one_file_is_a_stack(tmp_path: Path) -> None:
    """A file named outright holds items along axis 0."""
    listing = list_files(str(touch(tmp_path, "x.npz") / "x.npz"))
    assert (listing.root, listing.files, listing.kind, listing.single) == (tmp_path, ("x.npz",), "npz", True)


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (["a.png", "b.npy"], "", r"mixes kinds: 'a\.png' and 'b\.npy'"),
        (["a.png", "b.tiff"], "", r"'b\.tiff' is neither"),
        (["a.png", "weights"], "", "'weights' is neither"),
        (["labels.txt"], "", "no data files"),
        ([], "", "no data files"),
        (["a.png"], "*.jpg", "no data files"),
        (["a.png"], "absent", "no such file"),
        (["a.png"], "absent/*.png", "no data files"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(tmp_path: Path, names: list[str], asked: str, message: str) -> None:
    """Dropping what it does not know would calibrate on half of what somebody meant."""
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message) as caught:
        list_files(str(tmp_path / asked))
    assert caught.value.hint
    assert str(tmp_path) in caught.value.where


def test_a_folder_of_folders_is_told_about_two_stars(tmp_path: Path) -> None:
    """The usual class-per-folder layout needs a glob; the message must say which."""
    touch(tmp_path, "cats/a.png")
    with pytest.raises(DataError) as caught:
        list_files(str(tmp_path))
    assert "**" in caught.value.hint


def test_dangling_links_and_pipes_are_refused(tmp_path: Path) -> None:
    """A lost file must not shrink the set in silence; a pipe would hang the stage."""
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        list_files(str(tmp_path))
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a regular file"):
        list_files(str(tmp_path))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_allowed_roots_are_refused(tmp_path: Path, kind: str) -> None:
    """A spec must not make trtd read what its author could not name."""
    outside = touch(tmp_path / "outside", "secret.png")
    inside = touch(tmp_path / "inside", "a.png")
    if kind == "file":
        (inside / "b.png").symlink_to(outside / "secret.png")
    else:
        (inside / "sub").symlink_to(outside)
    asked = f"{inside}/**/*.png"
    assert len(list_files(asked).files) == 2
    with pytest.raises(DataError, match="outside the allowed roots"):
        list_files(asked, [inside])
    assert len(list_files(asked, [tmp_path]).files) == 2
