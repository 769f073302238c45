"""Names of files become keys that can be stored, printed and typed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.keys import is_spec_name, key_of, name_of

NAMES = st.one_of(
    st.binary(min_size=1, max_size=60).map(os.fsdecode),
    st.text(st.sampled_from("a\\xu0fU8\x80\x85\u202e\xff\udcff\udc80 "), max_size=12),
)


@given(NAMES)
def test_every_name_has_a_printable_key_and_comes_back_from_it(name: str) -> None:
    """A spec would be shown as something else, break the terminal or not be found again."""
    key = key_of(name)
    assert key.isprintable()
    assert key.encode("utf-8").decode("utf-8") == key
    assert name_of(key) == name


@given(NAMES, NAMES)
def test_two_names_have_two_keys(one: str, other: str) -> None:
    """One spec would stand for another."""
    assert (key_of(one) == key_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ppocr-det.toml", "ppocr-det.toml"),
        ("größe 2.toml", "größe 2.toml"),
        (os.fsdecode(b"\xff.toml"), r"\xff.toml"),
        (r"\xff.toml", r"\\xff.toml"),
        ("a\nb.toml", r"a\u000ab.toml"),
        ("\x1b[31m.toml", r"\u001b[31m.toml"),
        ("\u202elmot.toml", r"\u202elmot.toml"),
        ("\U000e0001.toml", r"\U000e0001.toml"),
    ],
)
def test_keys_read_like_their_names(name: str, key: str) -> None:
    """Whoever types a name would not recognize it."""
    assert key_of(name) == key


@pytest.mark.parametrize(
    "name", [".x.toml", ".#x.toml", "x.toml~", "#x.toml#", "x.toml.swp", "4913", "x.tmp", "x.TOML"]
)
def test_what_editors_leave_is_no_spec(name: str) -> None:
    """Each save would show specs that nobody wrote."""
    assert not is_spec_name(name)
