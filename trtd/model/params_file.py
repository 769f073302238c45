"""Walk a Paddle ``.pdiparams`` file without reading its weights; :mod:`trtd.model.params_values` reads them.

The format is the one of Paddle's ``save_combine``: tensors one after another, in the order of their sorted names,
which are not stored. Each is: uint32 version, uint64 LoD levels (each: uint64 bytes, data), uint32 version,
int32 length of a TensorDesc, the TensorDesc, the raw little-endian data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from trtd.errors import ModelError
from trtd.model.proto import parse_message

# VarType.Type of framework.proto -> numpy dtype name, bytes per element
DTYPES: dict[int, tuple[str, int]] = {
    0: ("bool", 1),
    1: ("int16", 2),
    2: ("int32", 4),
    3: ("int64", 8),
    4: ("float16", 2),
    5: ("float32", 4),
    6: ("float64", 8),
    20: ("uint8", 1),
    21: ("int8", 1),
    22: ("bfloat16", 2),
    23: ("complex64", 8),
    24: ("complex128", 16),
    32: ("float8_e4m3fn", 1),
    33: ("float8_e5m2", 1),
}
_DESC_LIMIT_BYTES = 4096
_LEVELS_LIMIT = 64
_LEFT_OVER = (
    "The two files come from different exports; or Paddle's quantization wrote what it cannot run itself, as it "
    "does for conv1d: quantize the model again without what reads it (skip_tensor_list)."
)


@dataclass(frozen=True)
class Parameter:
    """What is declared of, or stored as, one parameter; ``-1`` in ``dims`` is unknown.

    ``quantized`` marks a declaration that a quantize or dequantize operator reads. Paddle's quantization passes replace
    such a parameter and leave its declaration behind: int8 weights under float32, scales with or without axes of 1.
    """

    dtype: str
    dims: tuple[int, ...]
    quantized: bool = False

    def fits(self, stored: Parameter) -> bool:
        """Same dtype and dims; a 0-D and a 1-D tensor of one element count as equal, as older Paddle had no 0-D."""
        same_dtype = self.dtype == stored.dtype or (
            self.quantized and (self.dtype, stored.dtype) == ("float32", "int8")
        )
        if not same_dtype or -1 in self.dims or self.dims == stored.dims:
            return same_dtype
        if self.quantized:
            return [dim for dim in self.dims if dim != 1] == [dim for dim in stored.dims if dim != 1]
        return math.prod(self.dims) == math.prod(stored.dims) == 1 and len(self.dims) + len(stored.dims) == 1


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: what it is, where its record starts, and where its values start and end, in bytes."""

    parameter: Parameter
    start: int
    values: int
    end: int


def check_params(file: Path, declared: Mapping[str, Parameter]) -> None:
    """Raise ``ModelError`` unless ``file`` holds exactly the ``declared`` parameters, ends included."""
    stored_all = walk(file) if file.stat().st_size else iter(())
    for name, stored in zip_longest(sorted(declared), stored_all):
        if stored is None or name is None:
            held = sum(1 for _ in walk(file)) if file.stat().st_size else 0
            raise ModelError(
                f"the file holds {held} parameters, but the program declares {len(declared)}",
                hint="The two files come from different exports, or one of them is truncated: copy both again.",
                where=str(file),
            )
        if not declared[name].fits(stored):
            wanted = declared[name]
            raise ModelError(
                f"parameter '{name}' is {wanted.dtype}{list(wanted.dims)} in the program, "
                f"but {stored.dtype}{list(stored.dims)} here",
                hint=_LEFT_OVER if wanted.quantized else "The two files come from different exports: copy both again.",
                where=str(file),
            )


def walk(file: Path) -> Iterator[Parameter]:
    """Yield what is stored, in the file's order. Raises ``ModelError`` if the file does not end with a tensor."""
    return (stored.parameter for stored in records(file))


def records(file: Path) -> Iterator[Stored]:
    """As :func:`walk`, with the places in the file."""
    size_bytes = file.stat().st_size
    with file.open("rb") as stream:
        while (start := stream.tell()) < size_bytes:
            yield _read_tensor(stream, size_bytes, file, start)


def _read_tensor(stream: BinaryIO, size_bytes: int, file: Path, start: int) -> Stored:
    def take(count: int) -> bytes:
        data = stream.read(count)
        if len(data) != count:
            raise _torn(file, start)
        return data

    version, levels = struct.unpack("<IQ", take(12))
    if version != 0 or levels > _LEVELS_LIMIT:
        raise _torn(file, start)
    for _ in range(levels):
        _skip(stream, struct.unpack("<Q", take(8))[0], size_bytes, file, start)
    version, desc_bytes = struct.unpack("<Ii", take(8))
    if version != 0 or not 0 < desc_bytes <= _DESC_LIMIT_BYTES:
        raise _torn(file, start)
    desc = parse_message("PaddleTensorDesc", take(desc_bytes), file)
    dims = tuple(desc.dims)
    if desc.data_type not in DTYPES or any(dim < 0 for dim in dims):
        raise _torn(file, start)
    dtype, element_bytes = DTYPES[desc.data_type]
    values = stream.tell()
    _skip(stream, math.prod(dims) * element_bytes, size_bytes, file, start)
    return Stored(Parameter(dtype, dims), start, values, stream.tell())


def _skip(stream: BinaryIO, count: int, size_bytes: int, file: Path, start: int) -> None:
    if count > size_bytes - stream.tell():
        raise _torn(file, start)
    stream.seek(count, 1)


def _torn(file: Path, start: int) -> ModelError:
    return ModelError(
        f"the parameters are truncated or damaged: the tensor at byte {start} does not fit the file",
        hint="Copy or export the file again.",
        where=str(file),
    )
