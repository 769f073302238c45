"""TensorRT's calibration cache: read, written, and never of another network."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.calibrate.table import METHODS
from trtd.calibrate.tensorrt_cache import read_cache, scales_of, table_of, version_digits, write_cache
from trtd.errors import DataError, UsageError

# As TensorRT 8.6.1 wrote it.
WRITTEN = """\
TRT-8601-EntropyCalibration2
images: 3c010a14
(Unnamed Layer* 0) [Convolution]_output: 3d6b2a4f
output/x: 00000000
"""
SCALES = st.floats(min_value=0, max_value=1.5 * 2.0**127, width=32)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1)


def of(text: str, folder: Path) -> Path:
    path = folder / "x.cache"
    path.write_bytes(text.encode())
    return path


def imported(path: Path, needed: list[str], known: list[str] | None = None) -> dict[str, float]:
    table = table_of(
        read_cache(path), needed=needed, known=known or needed, model_digest="sha256:m", digest="sha256:c", where="x"
    )
    return scales_of(table, "entropy")


def test_a_cache_as_tensorrt_writes_it(tmp_path: Path) -> None:
    cache = read_cache(of(WRITTEN, tmp_path))
    assert (cache.version, cache.algorithm) == ("8601", "EntropyCalibration2")
    assert cache.scales["images"] == struct.unpack(">f", bytes.fromhex("3c010a14"))[0]
    assert write_cache(cache.scales, version="8601", algorithm="EntropyCalibration2") == WRITTEN


@given(scales=st.dictionaries(NAMES, SCALES, min_size=1, max_size=5))
def test_round_trips_are_exact_to_the_float(scales: dict[str, float], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Somebody's ranges must survive the move to TensorRT 11 as they were."""
    folder = tmp_path_factory.mktemp("cache")
    text = write_cache(scales, version="8601", algorithm="EntropyCalibration2")
    found = imported(of(text, folder), list(scales))
    assert {name: np.float32(scale) for name, scale in found.items() if scales[name]} == {
        name: np.float32(scale) for name, scale in scales.items() if scale
    }
    assert all(found[name] > 0 for name in scales)  # a tensor of zeros still needs a scale to divide by
    kept = {name: found[name] for name in scales if scales[name]}
    assert write_cache(kept, version="8601", algorithm="EntropyCalibration2") == write_cache(
        {name: scale for name, scale in scales.items() if scale}, version="8601", algorithm="EntropyCalibration2"
    )


def test_an_imported_table_is_symmetric_in_every_method(tmp_path: Path) -> None:
    table = table_of(
        read_cache(of("TRT-8601-EntropyCalibration2\na: 3f800000\n", tmp_path)),
        needed=["a"], known=["a"], model_digest="sha256:m", digest="sha256:c", where="x",
    )  # fmt: skip
    assert table.tensors["a"].amax == dict.fromkeys(METHODS, 127.0)
    assert table.tensors["a"].range == dict.fromkeys(METHODS, (-127.0, 127.0))


def test_a_cache_of_another_network_is_refused_with_the_names_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it lacks 'conv1', and has 'output/x', which this network has not") as told:
        imported(
            of(WRITTEN, tmp_path), ["images", "conv1"], ["images", "conv1", "(Unnamed Layer* 0) [Convolution]_output"]
        )
    assert "made with this very model" in told.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no calibration cache"),
        ("images: 3c010a14\n", "no calibration cache"),
        ("TRT-8601-EntropyCalibration2\n", "holds no tensor"),
        ("TRT-8601-EntropyCalibration2\nimages: 3c010a1\n", "line 2 is not"),
        ("TRT-8601-EntropyCalibration2\nimages: 3c010a14\nhalf a li", "line 3 is not"),
        ("TRT-8601-EntropyCalibration2\nimages: ffc00000\n", "line 2 is not"),
        ("TRT-8601-EntropyCalibration2\nimages: 7f800000\n", "line 2 is not"),
        ("TRT-8601-EntropyCalibration2\nimages: bf800000\n", "line 2 is not"),
        ("\x00\x01", "no calibration cache"),
    ],
)
def test_what_is_torn_or_no_cache_is_refused_by_line(text: str, said: str, tmp_path: Path) -> None:
    """A scale of NaN, of infinity or below zero would become an engine of noise."""
    with pytest.raises(DataError, match=said):
        read_cache(of(text, tmp_path))


@pytest.mark.parametrize(
    ("version", "digits"), [("8.6.1", "8601"), ("8.5", "8500"), ("10.3.0", "100300"), ("10.13.3.9", "101303")]
)
def test_versions_as_each_generation_counts_them(version: str, digits: str) -> None:
    """TensorRT discards a cache whose first line is of another version."""
    assert version_digits(version) == digits


@pytest.mark.parametrize(("version", "said"), [("eight", "no version"), ("11.0.0", "reads no calibration caches")])
def test_versions_that_are_none_or_read_no_cache(version: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        version_digits(version)
