"""Array files row by row: nothing loaded whole, nothing unpickled, every torn byte noticed."""

from __future__ import annotations

import dataclasses
import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtd.calibrate import arrays as room
from trtd.calibrate.arrays import ArrayFile, open_arrays
from trtd.errors import DataError

Array = np.ndarray[Any, Any]
Save = Callable[[Path, Array], Path]


def save_npy(folder: Path, array: Array) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


def save_npz(folder: Path, array: Array) -> Path:
    np.savez(folder / "x.npz", x=array)
    return folder / "x.npz"


def save_packed(folder: Path, array: Array) -> Path:
    np.savez_compressed(folder / "x.npz", x=array)
    return folder / "x.npz"


EVERY_WAY = pytest.mark.parametrize("save", [save_npy, save_npz, save_packed])


def opened(path: Path, rows: int | None) -> ArrayFile:
    return dataclasses.replace(open_arrays(path, "x"), rows=rows)


@EVERY_WAY
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [1, 4], [4], []])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "?"])
def test_wanted_rows_are_read(tmp_path: Path, save: Save, rows: list[int], order: Any, dtype: str) -> None:
    """Rows that are skipped must be skipped by their true size, in every storage order and byte order."""
    array = np.arange(5 * 3 * 4).reshape(5, 3, 4).astype(dtype, order=order)
    got = [arrays["x"] for arrays in opened(save(tmp_path, array), 5).read(rows)]
    assert len(got) == len(rows)
    for row, values in zip(rows, got, strict=True):
        np.testing.assert_array_equal(values, array[row])


@EVERY_WAY
def test_a_file_that_is_one_item(tmp_path: Path, save: Save) -> None:
    """Without an axis that counts items, the whole array is the item; scalars too."""
    array = np.arange(12.0).reshape(3, 4)
    assert [a["x"].tolist() for a in opened(save(tmp_path, array), None).read([None])] == [array.tolist()]
    assert [a["x"].item() for a in opened(save(tmp_path, np.array(7.0)), None).read([None])] == [7.0]


def test_several_arrays_advance_together(tmp_path: Path) -> None:
    """Row i of one input belongs to row i of the other."""
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(6).reshape(6, 1), b=np.arange(6.0) * 10)
    rows = list(opened(tmp_path / "x.npz", 6).read([1, 3, 5]))
    assert [(int(row["a"][0]), float(row["b"])) for row in rows] == [(1, 10), (3, 30), (5, 50)]


def test_a_large_compressed_member_is_never_held(tmp_path: Path) -> None:
    """A set of any size is streamed: 64 MB of rows may not need more than a few of them."""
    path = save_packed(tmp_path, np.zeros((64, 1 << 20), dtype=np.uint8))
    tracemalloc.start()
    try:
        assert sum(1 for _ in opened(path, 64).read(range(0, 64, 2))) == 32
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@EVERY_WAY
def test_truncation_is_noticed_at_every_length(tmp_path: Path, save: Save) -> None:
    """A copy that broke off must name the file, wherever it broke."""
    path = save(tmp_path, np.random.default_rng(1).standard_normal((4, 50)))
    whole = path.read_bytes()
    for length in [0, 1, 7, *range(11, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            list(opened(path, 4).read(range(4)))
        assert str(path) in caught.value.where


def test_flipped_bits_in_a_compressed_row_name_the_row(tmp_path: Path) -> None:
    """A damaged row is an error of that row, never the end of the data."""
    path = save_packed(tmp_path, np.random.default_rng(1).integers(0, 255, (40, 5000), dtype=np.uint8))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 500] = bytes(500)
    path.write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        list(opened(path, 40).read(range(40)))
    assert caught.value.where.startswith(f"{path}[")


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("packed", [False, True])
def test_pickled_objects_are_refused_and_never_loaded(tmp_path: Path, packed: bool) -> None:
    """Loading a pickle runs foreign code."""
    array = np.array([Bomb(tmp_path / "boom")], dtype=object)
    path = save_npz(tmp_path, array) if packed else save_npy(tmp_path, array)
    with pytest.raises(DataError, match=r"object.*never loaded"):
        open_arrays(path, "x")
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(DataError, match="cannot read the array"):
        open_arrays(path, "x")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("values", [np.array(["text"]), np.array([1j]), np.zeros(2, dtype=[("a", "f4")])])
def test_other_dtypes_are_refused(tmp_path: Path, values: Array) -> None:
    """Text, complex and structured arrays fit no input."""
    with pytest.raises(DataError, match="no model input takes"):
        open_arrays(save_npy(tmp_path, values), "x")


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy_bytes(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_archives_with_other_members_are_refused(tmp_path: Path) -> None:
    """A zip of something else, or with a header that promises more than there is, is no data."""
    data = npy_bytes(np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"'notes\.txt'"):
        open_arrays(write_zip(tmp_path / "a.npz", {"x.npy": data, "notes.txt": b"hello"}))
    with pytest.raises(DataError, match="too short"):
        open_arrays(write_zip(tmp_path / "b.npz", {"x.npy": data.replace(b"(2, 3)", b"(9, 9)")}))
    with pytest.raises(DataError, match="too short"):
        open_arrays(write_zip(tmp_path / "c.npz", {"x.npy": data.replace(b"(2, 3), }   ", b"(2, -3), }  ")}))
    with pytest.raises(DataError, match="cannot read"):
        open_arrays(write_zip(tmp_path / "d.npz", {"x.npy": b"version https://git-lfs"}))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    """Which of them would be read depends on the reader."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_bytes(np.zeros(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", npy_bytes(np.ones(2)))
    with pytest.raises(DataError, match="two arrays of one name"):
        open_arrays(path)


def test_large_fortran_order_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows lie scattered over the whole file, so it cannot be streamed."""
    monkeypatch.setattr(room, "FORTRAN_LIMIT_BYTES", 100)
    path = save_npz(tmp_path, np.asfortranarray(np.zeros((10, 10))))
    with pytest.raises(DataError, match="Fortran") as caught:
        list(opened(path, 10).read([0]))
    assert "ascontiguousarray" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file may vanish between listing and reading."""
    with pytest.raises(DataError, match="No such file"):
        open_arrays(tmp_path / "gone.npz")
