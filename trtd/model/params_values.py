"""Values of a Paddle ``.pdiparams`` file: read some of them, or copy some of them to another file. No paddle."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trtd.errors import ModelError
from trtd.model.params_file import records

Array = np.ndarray[Any, Any]

_CHUNK_BYTES = 1 << 20
_OF_NUMPY = frozenset("bool int8 uint8 int16 int32 int64 float16 float32 float64".split())


def read_values(file: Path, declared: Iterable[str], wanted: Collection[str]) -> dict[str, Array]:
    """The ``wanted`` parameters by name, in the shapes that are stored.

    ``declared`` names all parameters of the program: a file holds them sorted by name, without their names.
    Raises ``ModelError`` if the file is torn, or if a wanted value is of a type that numpy lacks (bfloat16, float8).
    """
    values = {}
    with file.open("rb") as stream:
        for name, stored in zip(sorted(declared), records(file), strict=True):
            if name not in wanted:
                continue
            if stored.parameter.dtype not in _OF_NUMPY:
                raise ModelError(
                    f"parameter '{name}' is {stored.parameter.dtype}, which cannot be read here",
                    hint="Export the model with float32 parameters.",
                    where=str(file),
                )
            stream.seek(stored.values)
            data = stream.read(stored.end - stored.values)
            dtype = np.dtype(stored.parameter.dtype).newbyteorder("<")
            values[name] = np.frombuffer(data, dtype).reshape(stored.parameter.dims)
    return values


def copy_values(file: Path, declared: Iterable[str], kept: Collection[str], out: Path) -> None:
    """Write the ``kept`` parameters of ``file`` to ``out``, byte for byte and in order."""
    with file.open("rb") as source, out.open("wb") as target:
        for name, stored in zip(sorted(declared), records(file), strict=True):
            if name in kept:
                source.seek(stored.start)
                for place in range(stored.start, stored.end, _CHUNK_BYTES):
                    target.write(source.read(min(_CHUNK_BYTES, stored.end - place)))
