"""Each spec in specs/ is one that a newcomer can copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtd.spec.load import load_spec

SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.toml"))


def test_there_are_examples() -> None:
    """A moved folder would leave the tests below with nothing to check."""
    assert {spec.stem for spec in SPECS} >= {"digits", "ppocr-det"}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_an_example_is_valid_and_named_like_its_file(path: Path) -> None:
    """An example that trtd refuses is worse than none."""
    assert load_spec(path).name == path.stem


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_an_example_points_editors_to_the_schema(path: Path) -> None:
    """Without the line, or with a wrong path in it, editors offer no completion."""
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    marker, _, schema = first.partition(" ")
    assert marker == "#:schema"
    assert (path.parent / schema).is_file()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_an_example_has_a_comment_before_its_first_key(path: Path) -> None:
    """Newcomers read what the example is for and how to build it before anything else."""
    second = path.read_text(encoding="utf-8").splitlines()[1]
    assert second.startswith("# ")
