"""Task metrics: top-1 against labels, and the user's own functions, which run only where the operator allows it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtd.calibrate.items import ItemRef
from trtd.errors import DataError, UsageError
from trtd.verify.task import HOOKS_ALLOWED, Top1, open_metric, read_labels

ITEMS = [ItemRef("a/1.png"), ItemRef("a/2.png"), ItemRef("b/3.png")]
ROWS = [ItemRef("x.npy", row) for row in range(3)]
SCORES = np.eye(3, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------- top-1


def test_top1_is_the_share_of_items_that_are_right() -> None:
    """Of the engine and of the reference, over all batches."""
    metric = Top1(dict(zip(ITEMS, [0, 1, 1], strict=True)))
    metric.update(ITEMS[:2], {"y": SCORES[[0, 0]]}, {"y": SCORES[[0, 1]]})
    metric.update(ITEMS[2:], {"y": SCORES[[1]]}, {"y": SCORES[[1]]})
    found = metric.result()
    assert (found.name, found.reference) == ("top1", 1.0)
    assert found.engine == pytest.approx(2 / 3)


def test_rows_beyond_the_items_do_not_count() -> None:
    """A model of fixed batch size repeats rows to fill it up."""
    metric = Top1({ITEMS[0]: 0})
    metric.update(ITEMS[:1], {"y": SCORES}, {"y": SCORES})
    assert metric.result().engine == 1.0


def test_top1_of_nothing_is_nan() -> None:
    """Which fails the gates on it."""
    assert math.isnan(Top1({}).result().engine)


def test_top1_finds_the_output_with_classes() -> None:
    """The first of shape (items, classes); a model without one cannot be judged so."""
    metric = Top1({ITEMS[0]: 2})
    outputs: dict[str, Any] = {"features": np.zeros((1, 4, 2)), "single": np.zeros((1, 1)), "scores": SCORES[[2]]}
    metric.update(ITEMS[:1], outputs, outputs)
    assert metric.result().engine == 1.0
    with pytest.raises(DataError, match="needs an output of class scores"):
        metric.update(ITEMS[:1], {"f": np.zeros((1, 4, 2))}, {"f": np.zeros((1, 4, 2))})


def test_top1_needs_labels() -> None:
    """Told before anything runs."""
    with pytest.raises(DataError, match="needs labels"):
        open_metric("top1", Path(), None)
    assert isinstance(open_metric("top1", Path(), {}), Top1)


# --------------------------------------------------------------------------------------------------------- labels


def labels_file(folder: Path, content: Any, name: str | None = None) -> Path:
    if isinstance(content, str | bytes):
        path = folder / (name or "labels.txt")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
    path = folder / (name or "labels.npy")
    np.save(path, content)
    return path


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_array_labels_follow_the_whole_set(dtype: Any, tmp_path: Path) -> None:
    """Held-out items are a part of it, in any order; each keeps the label of its place in the whole."""
    path = labels_file(tmp_path, np.array([7, 8, 9], dtype))
    assert read_labels(path, [ROWS[2], ROWS[0]], ROWS) == {ROWS[2]: 9, ROWS[0]: 7}


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2]),  # one short
        np.array([1, 2, 3, 4]),
        np.array([[1, 2, 3]]),
        np.array([0.1, 0.9, 0.5]),  # scores
        np.array([True, False, True]),
        np.array(["cat", "dog", "cat"]),
    ],
)
def test_arrays_that_are_no_labels_are_refused(array: Any, tmp_path: Path) -> None:
    """With what they are; shifted labels would make every accuracy meaningless."""
    with pytest.raises(DataError, match="not 3 whole numbers, one an item") as caught:
        read_labels(labels_file(tmp_path, array), ROWS, ROWS)
    assert caught.value.where.endswith("labels.npy")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "a/1.png 5\na/2.png 6\nb/3.png 7\n",
        "a/1.png\t5\n\n  a/2.png\t6  \nb/3.png\t7",
        "a/1.png,5\r\na/2.png, 6\r\nb/3.png,7\r\n",
        "/data/set/a/1.png 5\n/data/set/a/2.png 6\n/data/set/b/3.png 7\n",  # the list was made elsewhere
        "b/3.png 7\na/2.png 6\na/1.png 5\nother.png 1\n",
    ],
)
def test_text_labels_as_people_have_them(text: str, tmp_path: Path) -> None:
    """Spaces, tabs or commas; with the path in the set, or only with the file's name in common."""
    assert read_labels(labels_file(tmp_path, text), ITEMS, ITEMS) == dict(zip(ITEMS, [5, 6, 7], strict=True))


def test_names_with_spaces_and_negative_labels(tmp_path: Path) -> None:
    """The label is the last word; -1 is how PaddleClas marks the unknown."""
    items = [ItemRef("my cat, asleep.png"), ItemRef("b.png")]
    path = labels_file(tmp_path, "my cat, asleep.png 3\nb.png -1\n")
    assert read_labels(path, items, items) == {items[0]: 3, items[1]: -1}


def test_equal_names_in_two_folders_are_told_apart_by_path_alone(tmp_path: Path) -> None:
    """Class folders often number their files alike: the name alone would give the last one's label to all."""
    items = [ItemRef("cat/1.png"), ItemRef("dog/1.png")]
    assert read_labels(labels_file(tmp_path, "cat/1.png 0\ndog/1.png 1\n"), items, items) == {items[0]: 0, items[1]: 1}
    elsewhere = labels_file(tmp_path, "train/cat/1.png 0\ntrain/dog/1.png 1\n")
    with pytest.raises(DataError, match=r"no label for cat/1\.png \(2 in all\)"):
        read_labels(elsewhere, items, items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/1.png 5\nnonsense\n", "line 2 is not FILE LABEL: 'nonsense'"),
        ("a/1.png five\n", "line 1 is not FILE LABEL"),
        ("a/1.png 5.5\n", "line 1 is not FILE LABEL|no label"),
        ("a/1.png 5\na/1.png 6\n", "line 2 gives 'a/1.png' a second label"),
        ("a/1.png 5\n", r"no label for a/2\.png \(2 in all\)"),
        ("", r"no label for a/1\.png \(3 in all\)"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_texts_that_are_no_labels_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    """With the line."""
    with pytest.raises(DataError, match=message):
        read_labels(labels_file(tmp_path, content), ITEMS, ITEMS)


def test_a_text_cannot_label_the_rows_of_an_array(tmp_path: Path) -> None:
    """All rows come from one file: they would all get its one label."""
    with pytest.raises(DataError, match=r"no label for x\.npy\[0\] \(3 in all\)"):
        read_labels(labels_file(tmp_path, "x.npy 4\n"), ROWS, ROWS)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"no array"])
def test_torn_arrays_are_refused(content: bytes, tmp_path: Path) -> None:
    """numpy raises errors of three kinds for these."""
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(labels_file(tmp_path, content, "labels.npy"), ROWS, ROWS)


def test_pickles_and_archives_are_refused(tmp_path: Path) -> None:
    """A pickle runs code when it is read; an .npz by another name is no array."""
    np.save(tmp_path / "labels.npy", np.array([print, print, print], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "labels.npy", ROWS, ROWS)
    np.savez(tmp_path / "labels.npz", np.arange(3))
    (tmp_path / "labels.npz").rename(tmp_path / "labels.npy")
    with pytest.raises(DataError, match="npz by another name"):
        read_labels(tmp_path / "labels.npy", ROWS, ROWS)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    """By path."""
    with pytest.raises(DataError, match=r"labels\.npy: the labels cannot be read"):
        read_labels(tmp_path / "labels.npy", ROWS, ROWS)


# ---------------------------------------------------------------------------------------------------------- hooks

HOOK = """
def largest(outputs, expected):
    return float(max(o["y"].max() for o in outputs)) / 10

def matches(outputs, expected):
    rows = [row for o in outputs for row in o["y"]]
    assert len(rows) == len(expected)
    return sum(int(row.argmax()) == label for row, label in zip(rows, expected)) / len(expected)

def agrees(outputs, references):
    return sum(float((o["y"] == r["y"]).all()) for o, r in zip(outputs, references)) / len(outputs)

def breaks(outputs, expected):
    raise KeyError("boxes")

def text(outputs, expected):
    return "high"

def percent(outputs, expected):
    return 97.5

def below(outputs, expected):
    return -0.1

def nothing(outputs, expected):
    return float("nan")

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec's folder with a hook in it; hooks are allowed."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "metrics.py").write_text(HOOK)
    monkeypatch.setenv(HOOKS_ALLOWED, "1")
    return tmp_path


@pytest.mark.parametrize("value", [None, "", "0", "yes", "true"])
def test_hooks_are_off_by_default(value: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec is data; running its author's code is the operator's decision, said in so many words."""
    (folder / "hooks" / "metrics.py").write_text("raise SystemExit('this must not run')")
    if value is None:
        monkeypatch.delenv(HOOKS_ALLOWED)
    else:
        monkeypatch.setenv(HOOKS_ALLOWED, value)
    with pytest.raises(UsageError, match="hooks are off") as caught:
        open_metric("hooks/metrics.py:largest", folder, None)
    assert f"{HOOKS_ALLOWED}=1" in caught.value.hint


def test_a_hook_sees_labels_in_the_order_of_the_rows(folder: Path) -> None:
    """Engine and reference go through the same function."""
    metric = open_metric("hooks/metrics.py:matches", folder, dict(zip(ITEMS, [0, 1, 2], strict=True)))
    metric.update(ITEMS[:2], {"y": SCORES[[0, 2]]}, {"y": SCORES[[0, 1]]})
    metric.update(ITEMS[2:], {"y": SCORES[[2]]}, {"y": SCORES[[2]]})
    found = metric.result()
    assert (found.name, found.reference) == ("hooks/metrics.py:matches", 1.0)
    assert found.engine == pytest.approx(2 / 3)


def test_a_hook_without_labels_sees_the_references_outputs(folder: Path) -> None:
    """Masks or boxes of FP32 are what an unlabelled set can be held against."""
    metric = open_metric("hooks/metrics.py:agrees", folder, None)
    metric.update(ITEMS[:1], {"y": SCORES}, {"y": SCORES})
    metric.update(ITEMS[1:2], {"y": SCORES * 2}, {"y": SCORES})
    assert (metric.result().engine, metric.result().reference) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("breaks", "the metric hook failed: KeyError: 'boxes'"),
        ("text", "the metric hook failed: ValueError"),
        ("number", "the metric hook failed: TypeError"),
        ("percent", "returned 97.5, which is no share"),
        ("below", "returned -0.1, which is no share"),
    ],
)
def test_a_hook_that_fails_is_named(name: str, message: str, folder: Path) -> None:
    """Its fault must not look like ours; percentages would pass every gate on a share."""
    metric = open_metric(f"hooks/metrics.py:{name}", folder, None)
    metric.update(ITEMS[:1], {"y": SCORES}, {"y": SCORES})
    with pytest.raises(DataError, match=message) as caught:
        metric.result()
    assert caught.value.where == f"hooks/metrics.py:{name}"
    assert "from 0 to 1" in caught.value.hint


def test_nan_is_passed_on(folder: Path) -> None:
    """The gate fails on it, with the rest of the report in place."""
    metric = open_metric("hooks/metrics.py:nothing", folder, None)
    assert math.isnan(metric.result().engine)


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        ("hooks/metrics.py:absent", HOOK, "cannot be loaded: AttributeError"),
        ("hooks/metrics.py:largest", "def largest(:\n", "cannot be loaded: SyntaxError"),
        ("hooks/metrics.py:largest", "import nowhere_to_be_found\n", "cannot be loaded: ModuleNotFoundError"),
        ("hooks/nowhere.py:largest", HOOK, "there is no such hook file"),
        ("hooks:largest", HOOK, "there is no such hook file"),
    ],
)
def test_a_hook_that_cannot_be_loaded_is_named(spec: str, content: str, message: str, folder: Path) -> None:
    """At once, before an hour of verification."""
    (folder / "hooks" / "metrics.py").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        open_metric(spec, folder, None)
    assert "hooks" in caught.value.where
