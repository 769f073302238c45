"""Digests are equal exactly when the content is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.errors import StorageError
from trtd.store.digest import file_digest, json_digest

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_500_000])
@pytest.mark.parametrize("from_disk", [False, True])
def test_file_digest_is_sha256_at_every_piece_boundary(tmp_path: Path, size: int, from_disk: bool) -> None:
    """A stale tail of the read buffer would give two files of different sizes one digest, or one file two."""
    data = (b"0123456789" * (size // 10 + 1))[:size]
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file", from_disk=from_disk) == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_unreadable_file_is_a_storage_error(tmp_path: Path) -> None:
    """A bare OSError would reach the user as a bug."""
    with pytest.raises(StorageError, match="No such file"):
        file_digest(tmp_path / "missing")


@given(st.dictionaries(st.text(), PLAIN, max_size=6))
def test_json_digest_does_not_see_the_order_of_keys(value: dict[str, Any]) -> None:
    """A digest that depends on the order of keys misses the cache for nothing."""
    assert json_digest(value) == json_digest(dict(reversed(value.items())))


@given(PLAIN, PLAIN)
def test_json_digest_tells_different_values_apart(one: Any, other: Any) -> None:
    """Two inputs under one key would be a cache hit for something else."""
    assert (json_digest(one) == json_digest(other)) == (_canonical(one) == _canonical(other))


def _canonical(value: Any) -> Any:
    """The value with its types spelt out and its keys sorted."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((key, _canonical(inner)) for key, inner in value.items())))
    if isinstance(value, list):
        return ("list", tuple(_canonical(inner) for inner in value))
    return (type(value).__name__, repr(value))


def test_json_digest_refuses_nan() -> None:
    """NaN never equals itself, so it has no place in a key."""
    with pytest.raises(ValueError, match="JSON"):
        json_digest({"gate": float("nan")})
