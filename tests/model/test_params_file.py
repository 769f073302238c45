"""The walk through a .pdiparams file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.errors import ModelError
from trtd.model.params_file import DTYPES, Parameter, check_params, walk

_PARAMETERS = st.builds(
    Parameter,
    dtype=st.sampled_from([name for name, _ in DTYPES.values()]),
    dims=st.lists(st.integers(0, 5), max_size=4).map(tuple),
)


def _stored(parameter: Parameter) -> bytes:
    """One tensor as Paddle's SerializeToStream writes it, with zeros for data."""
    code = next(code for code, (name, _) in DTYPES.items() if name == parameter.dtype)
    elements = 1
    desc = bytes([0x08, code])
    for dim in parameter.dims:
        desc += bytes([0x10, dim])
        elements *= dim
    return struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + bytes(elements * DTYPES[code][1])


@given(parameters=st.lists(_PARAMETERS, min_size=1, max_size=6))
def test_what_was_stored_is_found(parameters: list[Parameter], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Would break if the reading of the format drifted from Paddle's."""
    file = tmp_path_factory.mktemp("p") / "x.pdiparams"
    file.write_bytes(b"".join(map(_stored, parameters)))
    assert list(walk(file)) == parameters
    check_params(file, {f"{index:03}": parameter for index, parameter in enumerate(parameters)})


def test_names_are_sorted_before_they_are_matched(tmp_path: Path) -> None:
    """Paddle stores parameters by sorted name, whatever their order in the program."""
    small, large = Parameter("float32", (2,)), Parameter("float32", (3, 4))
    file = tmp_path / "x.pdiparams"
    file.write_bytes(_stored(small) + _stored(large))
    check_params(file, {"b": large, "a": small})
    with pytest.raises(ModelError, match=r"parameter 'a' is float32\[3, 4\] in the program, but float32\[2\] here"):
        check_params(file, {"a": large, "b": small})


@pytest.mark.parametrize("count", [1, 3])
def test_too_many_or_too_few_parameters_are_counted(count: int, tmp_path: Path) -> None:
    """Weights of another export, or a file cut exactly between two tensors."""
    one = Parameter("float32", (2,))
    file = tmp_path / "x.pdiparams"
    file.write_bytes(_stored(one) * 2)
    with pytest.raises(ModelError, match=f"holds 2 parameters, but the program declares {count}"):
        check_params(file, dict.fromkeys("abc"[:count], one))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IQ", 1, 0),
        struct.pack("<IQ", 0, 2**60),
        struct.pack("<IQQ", 0, 1, 2**63),
        struct.pack("<IQIi", 0, 0, 0, -5),
        struct.pack("<IQIi", 0, 0, 0, 2**30),
        struct.pack("<IQIi", 0, 0, 0, 2) + b"\x08\x63",
        struct.pack("<IQIi", 0, 0, 0, 12) + b"\x08\x05\x10" + b"\xff" * 8 + b"\x7f",
    ],
)
def test_hostile_headers_are_refused_without_allocating(header: bytes, tmp_path: Path) -> None:
    """A declared size of exabytes must not be believed."""
    file = tmp_path / "x.pdiparams"
    file.write_bytes(header + bytes(64))
    with pytest.raises(ModelError):
        list(walk(file))
