"""Rows of ``.npy`` and ``.npz`` files, read one after the other without ever holding a whole file.

Members of an ``.npz`` may be compressed: rows are taken off the decompressed stream in order, so one pass reads
each file once however many rows are wanted. Pickled objects are refused by their header, before anything is loaded.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from trtd.errors import DataError

Array = NDArray[Any]

FORTRAN_LIMIT_BYTES = 256 << 20
"""Arrays in Fortran order cannot be read row by row; up to this size they are loaded whole."""


@dataclass(frozen=True)
class Member:
    """One array of a file: the input it feeds and what its header says.

    Attributes:
        header_bytes: where the values start.
        file_bytes: size of header and values, unpacked.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    header_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class ArrayFile:
    """One ``.npy`` or ``.npz`` and the headers of its arrays.

    Attributes:
        members: a ``.npy`` has one.
        rows: items along axis 0 of every member; ``None`` if the file holds a single item without that axis.
    """

    path: Path
    members: tuple[Member, ...]
    rows: int | None

    def read(self, rows: Sequence[int | None]) -> Iterator[dict[str, Array]]:
        """Yield the wanted rows (ascending; ``None`` for a file that is one item) as arrays by member name.

        Raises:
            DataError: the file is torn, or changed since it was opened; names file and row.
        """
        row: int | None = None
        with ExitStack() as stack:
            with reading(self.path):
                streams = {m.name: _RowStream(self, m, stack.enter_context(self._open(m))) for m in self.members}
            for row in rows:
                with reading(self.path, row):
                    arrays = {name: stream.read(row) for name, stream in streams.items()}
                yield arrays

    @contextmanager
    def _open(self, member: Member) -> Iterator[IO[bytes]]:
        if self.path.suffix.lower() == ".npy":
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{member.name}.npy") as file:
                yield file


def open_arrays(path: Path, name: str = "") -> ArrayFile:
    """Read the headers of a ``.npy`` (whose array feeds input ``name``) or of an ``.npz``; ``rows`` is left open.

    Raises:
        DataError: not such a file, torn, or holds something else than plain arrays of numbers.
    """
    with reading(path):
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return ArrayFile(path, (_header(file, name, path, path.stat().st_size),), None)
        with zipfile.ZipFile(path) as archive:
            members = tuple(_zipped_header(archive, info, path) for info in archive.infolist())
    if len({member.name for member in members}) != len(members):
        raise DataError("holds two arrays of one name", where=str(path), hint="write it again with numpy.savez")
    return ArrayFile(path, members, None)


@contextmanager
def reading(path: Path, row: int | None = None) -> Iterator[None]:
    """Map whatever reading a broken array file raises to ``DataError`` with the file and the row."""
    where = str(path) if row is None else f"{path}[{row}]"
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, SyntaxError) as error:
        hint = "the file is torn or no NumPy file: write it again with numpy.save or numpy.savez"
        raise DataError(f"cannot read the array: {error}", where=where, hint=hint) from error
    except (NotImplementedError, RuntimeError) as error:  # unknown compression, encrypted members, lying headers
        raise DataError(f"cannot read the array: {error}", where=where, hint="write it with numpy.savez") from error
    except OSError as error:
        hint = "check that the file is still there, and its permissions"
        raise DataError(f"cannot be read: {error.strerror or error}", where=where, hint=hint) from error


def _zipped_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Member:
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        hint = "write it with numpy.savez"
        raise DataError(f"holds {info.filename!r}, which is no array", where=str(path), hint=hint)
    with archive.open(info) as file:
        return _header(file, name, path, info.file_size)


def _header(file: IO[bytes], name: str, path: Path, file_bytes: int) -> Member:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = npy_format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = npy_format.read_array_header_2_0(file)
    else:
        raise ValueError(f"format version {version} is for structured arrays")
    label = f"array {name!r} of {path.name}" if path.suffix.lower() == ".npz" else path.name
    if dtype.kind not in "biuf":
        raise DataError(
            f"{label} has dtype {dtype}, which no model input takes (pickled objects are never loaded)",
            where=str(path),
            hint="save plain numbers: numpy.asarray(data, dtype='float32')",
        )
    member = Member(name, dtype, shape, fortran and len(shape) > 1, file.tell(), file_bytes)
    if any(dim < 0 for dim in shape) or member.header_bytes + dtype.itemsize * math.prod(shape) > file_bytes:
        raise ValueError(f"the header promises shape {shape}, the file is too short for it")
    return member


class _RowStream:
    """Takes rows off one member, forward only."""

    def __init__(self, owner: ArrayFile, member: Member, file: IO[bytes]) -> None:
        self._member = member
        self._file = file
        self._next_row = 0
        stacked = owner.rows is not None
        self._shape = member.shape[1:] if stacked else member.shape
        self._row_bytes = member.dtype.itemsize * math.prod(self._shape)
        self._whole: Array | None = self._load_fortran(owner.path) if member.fortran else None
        if self._whole is None:
            _skip(file, member.header_bytes)

    def read(self, row: int | None) -> Array:
        if self._whole is not None:
            return self._whole if row is None else self._whole[row]
        skipped = (row or 0) - self._next_row
        if skipped < 0:
            raise ValueError(f"row {row} was asked for after row {self._next_row - 1}")
        _skip(self._file, skipped * self._row_bytes)
        self._next_row = (row or 0) + 1
        return np.frombuffer(_take(self._file, self._row_bytes), self._member.dtype).reshape(self._shape)

    def _load_fortran(self, path: Path) -> Array:
        member = self._member
        if member.file_bytes > FORTRAN_LIMIT_BYTES:
            raise DataError(
                f"array {member.name!r} is stored in Fortran order and too large to load whole",
                where=str(path),
                hint="save it again: numpy.save(path, numpy.ascontiguousarray(array))",
            )
        _skip(self._file, member.header_bytes)
        flat = np.frombuffer(_take(self._file, member.dtype.itemsize * math.prod(member.shape)), member.dtype)
        return flat.reshape(member.shape, order="F")


def _take(file: IO[bytes], count: int) -> bytearray:
    buffer = bytearray(count)
    view, filled = memoryview(buffer), 0
    while filled < count:
        got = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f"the data ends {count - filled} bytes too early")
        filled += got
    return buffer


def _skip(file: IO[bytes], count: int) -> None:
    """Step over bytes; reading them off, since compressed streams cannot jump."""
    if count:
        file.seek(count, 1)
