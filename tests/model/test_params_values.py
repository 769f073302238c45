"""Values out of a .pdiparams file, without paddle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model.quantized_program import stored
from trtd.errors import ModelError
from trtd.model.params_file import walk
from trtd.model.params_values import copy_values, read_values

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([[-128, 127]], np.int8),
    "c": np.array(7, np.int64),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "x.pdiparams"
    made.write_bytes(b"".join(stored(ARRAYS[name]) for name in sorted(ARRAYS)))
    return made


def test_values_are_found_by_name(file: Path) -> None:
    """Names are not in the file: an off-by-one would pair each weight with another's scales."""
    found = read_values(file, ARRAYS, {"a", "c"})
    assert sorted(found) == ["a", "c"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)


def test_a_copy_holds_what_was_kept_byte_for_byte(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """paddle2onnx reads the rest of the weights from the copy; large ones are copied in pieces."""
    monkeypatch.setattr("trtd.model.params_values._CHUNK_BYTES", 7)
    copy = file.with_name("y.pdiparams")
    copy_values(file, ARRAYS, {"b", "c"}, copy)
    assert copy.read_bytes() == stored(ARRAYS["b"]) + stored(ARRAYS["c"])
    assert len(list(walk(copy))) == 2


def test_types_that_numpy_lacks_are_named(file: Path) -> None:
    """bfloat16 read as something else would be noise."""
    data = bytearray(stored(np.zeros(3, np.int16)))
    data[data.index(bytes([0x08, 0x01])) + 1] = 22  # the code of bfloat16
    file.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="'w' is bfloat16"):
        read_values(file, ["w"], {"w"})
