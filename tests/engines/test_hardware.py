"""What each GPU computes, by target and version."""

from __future__ import annotations

import pytest

from trtd.engines.hardware import PRECISIONS, hardware, release, rtx_convolves_int8


@pytest.mark.parametrize(
    ("target", "version", "capability", "precision", "support"),
    [
        ("tensorrt", "10.13.0", "7.5", "tf32", "absent"),
        ("tensorrt", "10.13.0", "7.5", "int8 convolution", "fast"),
        ("tensorrt", "11.4.0", "8.6", "fp8", "absent"),
        ("tensorrt", "11.4.0", "8.9", "fp8", "fast"),
        ("tensorrt-rtx", "1.6.1.120", "8.9", "int8 convolution", "absent"),
        ("tensorrt-rtx", "1.7.1.116", "8.9", "int8 convolution", "runs"),
        ("tensorrt-rtx", "1.7.1.116", "7.5", "int8", "absent"),
        ("tensorrt-rtx", "1.6.1.120", "9.0", "fp16", "fast"),
        ("paddle-tensorrt", "", "6.1", "fp16", "absent"),
        ("paddle-tensorrt", "", "6.0", "int8", "absent"),
        ("paddle-tensorrt", "", "8.6", "int8", "fast"),
    ],
)
def test_known_combinations(target: str, version: str, capability: str, precision: str, support: str) -> None:
    assert hardware(target, version, capability).support[precision] == support


@pytest.mark.parametrize(
    ("target", "version", "capability"),
    [("tensorrt", "10.13.0", "6.1"), ("tensorrt-rtx", "1.7.1", "9.0"), ("tensorrt-rtx", "1.7.1", "99.9")],
)
def test_what_nobody_lists_is_not_made_up(target: str, version: str, capability: str) -> None:
    known = hardware(target, version, capability)
    assert not known.listed
    assert known.support == {}


def test_every_row_names_every_precision() -> None:
    assert tuple(hardware("tensorrt", "11.4.0", "9.0").support) == PRECISIONS


@pytest.mark.parametrize(
    ("version", "found"), [("1.6.1.120", (1, 6)), ("1.10.0", (1, 10)), ("", (0, 0)), ("dev", (0, 0)), ("1", (0, 0))]
)
def test_versions_are_numbers(version: str, found: tuple[int, int]) -> None:
    """1.10 comes after 1.7."""
    assert release(version) == found
    assert rtx_convolves_int8(version) == (found >= (1, 7))
