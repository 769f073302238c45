"""Calibration and held-out items: enough of both, chosen the same everywhere, and never the same content."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.items import ItemRef
from trtd.calibrate.split import Split, check_disjoint, select, set_digest, split
from trtd.errors import DataError
from trtd.model.facts import TensorFacts

X = TensorFacts(name="x", dtype="float32", shape=(None, 2))


def folder_of(root: Path, contents: dict[str, int]) -> Dataset:
    """A folder of small arrays; equal numbers mean equal content."""
    root.mkdir(exist_ok=True)
    for name, content in contents.items():
        np.save(root / f"{name}.npy", np.array([content, 1.0]))
    return open_dataset(str(root), [X], {}, None)


def stack_of(root: Path, contents: list[int]) -> Dataset:
    np.savez_compressed(root / "x.npz", x=[[content, 1.0] for content in contents])
    return open_dataset(str(root / "x.npz"), [X], {}, None)


def values_of(dataset: Dataset, items: tuple[ItemRef, ...]) -> set[float]:
    return {float(dataset.load(item)["x"][0, 0]) for item in items}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(2, 40))
def test_the_sets_never_share_content(contents: list[int], samples: int) -> None:
    """An engine that is judged by what it was tuned on looks better than it is; copies under other names too."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = stack_of(Path(folder), contents)
        distinct = len(set(contents))
        if distinct < 10:
            with pytest.raises(DataError, match="held out"):
                split(dataset, samples)
            return
        parts = split(dataset, samples)
        calibration, heldout = values_of(dataset, parts.calibration), values_of(dataset, parts.heldout)
    assert not calibration & heldout
    assert len(calibration) == len(parts.calibration)
    assert len(parts.heldout) == 8
    assert len(parts.calibration) == min(samples, distinct - 8)
    assert parts.calibration == tuple(sorted(parts.calibration))


@pytest.mark.parametrize(
    ("items", "samples", "heldout", "calibration"),
    [(10, 500, 8, 2), (100, 500, 10, 90), (1000, 500, 50, 500), (1000, 20, 8, 20), (101, 500, 11, 90)],
)
def test_a_tenth_is_held_out_at_least_eight(
    tmp_path: Path, items: int, samples: int, heldout: int, calibration: int
) -> None:
    """The documented default, counted from the items that could be used."""
    parts = split(stack_of(tmp_path, list(range(items))), samples)
    assert (len(parts.heldout), len(parts.calibration)) == (heldout, calibration)


@pytest.mark.parametrize(("count", "left"), [(9, 1), (8, 0), (1, 0)])
def test_too_few_items_explain_the_arithmetic(tmp_path: Path, count: int, left: int) -> None:
    """Calibrating on one item is one of the silent failures; the message must say where the others went."""
    with pytest.raises(DataError) as caught:
        split(stack_of(tmp_path, list(range(count))), 500)
    text = caught.value.message
    assert text.startswith(f"{count} item{'' if count == 1 else 's'}: 8 are held out")
    assert f"leaves {left} for calibration; at least 2" in text
    assert "10 different items or more" in caught.value.hint


def test_duplicates_are_counted_in_the_message(tmp_path: Path) -> None:
    """Twenty copies are one item; without saying so the message would seem wrong."""
    with pytest.raises(DataError, match=r"1 item of different content \(19 are duplicates\)"):
        split(stack_of(tmp_path, [7] * 20), 500)
    with pytest.raises(DataError, match=r"1 item of different content \(4 are duplicates\); at least 2"):
        select(stack_of(tmp_path, [7] * 5), 500)


def test_the_choice_is_stable(tmp_path: Path) -> None:
    """The same folder gives the same sets on every machine; a new file displaces at most one item of each."""
    contents = {f"page{i}": i for i in range(60)}
    first = split(folder_of(tmp_path / "one", contents), 20)
    again = split(folder_of(tmp_path / "two", dict(reversed(contents.items()))), 20)
    assert first == again
    more = split(folder_of(tmp_path / "one", {"another": 99}), 20)
    assert len(set(first.heldout) - set(more.heldout)) <= 1
    assert len(set(first.calibration) - set(more.calibration)) <= 2


def test_the_choice_is_not_the_alphabet(tmp_path: Path) -> None:
    """Sorted sets begin with one class; taking the first items would calibrate on it alone."""
    parts = split(stack_of(tmp_path, list(range(500))), 100)
    rows = [item.row or 0 for item in parts.calibration]
    assert min(rows) < 50
    assert max(rows) > 450


def test_digests_follow_content_alone(tmp_path: Path) -> None:
    """Renaming files keeps every cache; changing one value, or one item, does not."""
    one = select(folder_of(tmp_path / "a", {f"a{i}": i for i in range(12)}), None)
    renamed = select(folder_of(tmp_path / "b", {f"b{i}": i for i in range(12)}), None)
    changed = select(folder_of(tmp_path / "c", {f"a{i}": i or 77 for i in range(12)}), None)
    fewer = select(folder_of(tmp_path / "a", {}), 11)
    assert one.digest == renamed.digest
    assert len({one.digest, changed.digest, fewer.digest}) == 3
    assert one.digest.startswith("sha256:")
    assert set_digest(["a", "b"]) == set_digest(["b", "a"]) != set_digest(["ab"])


def test_only_the_chosen_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing 20 of a million must not read a million."""
    dataset = stack_of(tmp_path, list(range(3000)))
    read: list[ItemRef] = []
    plain = Dataset.contents

    def contents(self: Dataset, items: list[ItemRef]) -> dict[ItemRef, str]:
        read.extend(items)
        return plain(self, items)

    monkeypatch.setattr(Dataset, "contents", contents)
    split(dataset, 20)
    assert len(read) == 28


def test_a_set_of_its_own_gives_all_its_samples(tmp_path: Path) -> None:
    """With separate verification data nothing is held out of the calibration set."""
    selection = select(stack_of(tmp_path, [1, 2, 3, 3]), 500)
    assert len(selection.items) == 3
    assert len(selection.duplicates) == 1
    assert len(select(stack_of(tmp_path, list(range(50))), 7).items) == 7


def test_overlap_of_two_given_sets_is_refused_by_name(tmp_path: Path) -> None:
    """Calibration data given again as held-out data is one of the silent failures; a copy under a new name as well."""
    mine = select(folder_of(tmp_path / "mine", {f"page{i}": i for i in range(10)}), None)
    other = select(folder_of(tmp_path / "other", {f"page{i}": i for i in range(20, 30)}), None)
    check_disjoint(mine, other)
    with pytest.raises(DataError, match=r"share 10 of 10 .*page0\.npy, page1\.npy, page2\.npy and 7 more"):
        check_disjoint(mine, mine)
    copied = select(folder_of(tmp_path / "copied", {"copy": 4, "new": 50}), None)
    with pytest.raises(DataError, match=r"share 1 of 2 .*page4\.npy \(held out as copy\.npy\)"):
        check_disjoint(mine, copied)


def test_split_holds_what_its_digests_say(tmp_path: Path) -> None:
    """The manifest proves disjointness by these digests."""
    dataset = stack_of(tmp_path, list(range(30)))
    parts = split(dataset, 10)
    assert isinstance(parts, Split)
    for items, digest in (
        (parts.calibration, parts.calibration_digest),
        (parts.heldout, parts.heldout_digest),
    ):
        assert set_digest(dataset.contents(items).values()) == digest
