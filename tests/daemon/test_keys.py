"""Names of files become keys that can be stored, printed and typed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.keys import is_of_file, is_spec_name, key_of, name_of, part_of, several, stem_of, subject_key
from trtd.spec.fields import TARGETS
from trtd.status import file_of

NAMES = st.one_of(
    st.binary(min_size=1, max_size=60).map(os.fsdecode),
    st.text(st.sampled_from("a\\xu0fU8\x80\x85\u202e\xff\udcff\udc80 "), max_size=12),
)
FILES = st.one_of(NAMES, st.sampled_from(["a.toml#tensorrt", "#", "a.toml#", ".toml#tensorrt"])).map(
    lambda name: f"{name}.toml"
)
PARTS = st.sampled_from(["", *TARGETS])


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


@given(FILES, PARTS)
def test_a_subject_is_of_one_file_and_one_target(name: str, part: str) -> None:
    """A build would be of another file's spec, or for another target: a file may be named as if it were a subject."""
    key = subject_key(key_of(name), part)
    assert (file_of(key), name_of(key), part_of(key)) == (key_of(name), name, part)
    assert stem_of(key) == key_of(name).removesuffix(".toml") + (f"-{part}" if part else "")


@given(FILES, PARTS, FILES, PARTS)
def test_two_subjects_have_two_keys(one: str, part: str, other: str, another: str) -> None:
    """One target would stand for another."""
    keys = {subject_key(key_of(one), part), subject_key(key_of(other), another)}
    assert len(keys) == len({(one, part), (other, another)})


def test_a_file_name_means_all_of_its_targets() -> None:
    """Whoever knows the file alone would be told that there is no such spec."""
    assert is_of_file("det.toml#tensorrt", "det")
    assert is_of_file("det.toml", "det.toml")
    assert not is_of_file("det.toml#tensorrt", "det.toml#tensorrt-rtx")
    parts = {"det.toml#tensorrt": "det-tensorrt", "det.toml#onnxruntime-cpu": "det-onnxruntime-cpu"}
    assert several("det", parts) == (
        "det is built for several targets: det-onnxruntime-cpu, det-tensorrt",
        "name one of them",
    )
    assert several("x", {"a.toml": "x", "b.toml": "x"})[0] == "several specs claim the name x: a.toml, b.toml"


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
