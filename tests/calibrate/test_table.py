"""The calibration table on disk: exact, readable, and refused when it is not what it seems."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.calibrate.methods import make_table
from trtd.calibrate.observe import RangeObserver
from trtd.calibrate.table import METHODS, CalibrationTable, TensorRange, read_table, write_table
from trtd.errors import DataError, StorageError

SIZES = st.floats(min_value=2.0**-118, max_value=1e300, allow_nan=False)
COUNTS = st.lists(st.integers(0, 10**15), max_size=30)


@st.composite
def tensor_ranges(draw: st.DrawFn) -> TensorRange:
    counts = draw(COUNTS)
    low, high = sorted((draw(st.floats(-1e300, 1e300)), draw(st.floats(-1e300, 1e300))))
    return TensorRange(
        min=low,
        max=high,
        values=sum(counts),
        bin_width=math.ldexp(1.0, draw(st.integers(-200, 200))),
        first_bin=draw(st.integers(-2048, 2047)),
        counts=tuple(counts),
        amax={method: draw(SIZES) for method in METHODS},
        range={method: (-draw(SIZES), draw(SIZES)) for method in METHODS},
    )


TABLES = st.builds(
    CalibrationTable,
    model_digest=st.text(),
    set_digest=st.text(),
    samples=st.integers(2, 10**9),
    percentile=st.floats(50, 100),
    tensors=st.dictionaries(st.text(), tensor_ranges(), max_size=4),
)


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    observer = RangeObserver("t")
    observer.update(np.linspace(-1, 2, 1000, dtype=np.float32))
    observers = {"conv.0": observer, "conv.1": observer}
    path = tmp_path / "calibration.json"
    write_table(make_table(observers, model_digest="sha256:m", set_digest="sha256:s", samples=3), path)
    return path


@settings(max_examples=100, deadline=None)
@given(table=TABLES)
def test_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, table: CalibrationTable) -> None:
    """A scale that changes in its last bit changes the engine's digest, and no cache holds any more."""
    path = tmp_path_factory.mktemp("table") / "calibration.json"
    write_table(table, path)
    assert read_table(path) == table


def test_is_readable_line_by_line(table_file: Path) -> None:
    """People diff and grep this file: a line for each tensor, standard JSON."""
    lines = table_file.read_text().splitlines()
    assert len([line for line in lines if '"conv.' in line]) == 2
    assert json.loads(table_file.read_text())["schema_version"] == 1


def test_a_torn_file_is_refused_at_every_length(table_file: Path) -> None:
    """Half a table would quantize half the tensors."""
    whole = table_file.read_bytes()
    for length in [0, 1, 2, *range(10, len(whole) - 2, max(1, len(whole) // 40)), len(whole) - 3]:
        table_file.write_bytes(whole[:length])
        with pytest.raises(DataError, match="trtd calibrate"):
            read_table(table_file)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "null", '{"schema_version": 1}', "\x00\x01", "[" * 100_000, '{"a": NaN}', "9" * 5000, '"text"'],
)
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    """Whatever file is named by mistake, the answer is one clear error."""
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert caught.value.hint
    assert caught.value.where == str(path)


def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path: Path) -> None:
    """A TensorRT cache or a binary named by mistake must not end in a traceback."""
    path = tmp_path / "calibration.json"
    with pytest.raises(DataError, match="No such file"):
        read_table(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="torn"):
        read_table(path)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_version_is_named(table_file: Path, version: Any) -> None:
    """A newer file may mean something else by the same key; guessing would be silent."""
    data = json.loads(table_file.read_text()) | {"schema_version": version}
    table_file.write_text(json.dumps(data))
    with pytest.raises(DataError, match="schema version"):
        read_table(table_file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("min", 5.0, "min is greater"),
        ("min", "NaN", "malformed at tensors.conv.0.min"),
        ("max", 1e400, "not finite"),
        ("bin_width", 0.3, "power of two"),
        ("bin_width", 0.0, "power of two"),
        ("values", 7, "do not add up"),
        ("counts", [-1, 1001], "do not add up"),
        ("counts", "12", "malformed"),
        ("amax", {"minmax": 1.0}, "must hold"),
        ("amax", dict.fromkeys(METHODS, 0.0), "greater than zero"),
        ("range", dict.fromkeys(METHODS, (0.5, 1.0)), "include zero"),
        ("range", dict.fromkeys(METHODS, (0.0, 0.0)), "empty"),
        ("range", dict.fromkeys(METHODS, (0.0,)), "malformed"),
        ("scale", 1.0, "malformed"),
    ],
)
def test_an_entry_that_contradicts_itself_is_named(table_file: Path, key: str, value: Any, message: str) -> None:
    """A table that was edited by hand, or by another tool, must fail here and not in the engine."""
    data = json.loads(table_file.read_text())
    data["tensors"]["conv.0"][key] = value
    table_file.write_text(json.dumps(data).replace("Infinity", "1e400"))
    with pytest.raises(DataError, match=message) as caught:
        read_table(table_file)
    assert "conv.0" in str(caught.value)


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A disk that refuses is a storage error, and leaves no draft behind."""
    with pytest.raises(StorageError) as caught:
        write_table(
            CalibrationTable(model_digest="", set_digest="", samples=2, percentile=99.0, tensors={}),
            tmp_path / "absent" / "calibration.json",
        )
    assert caught.value.hint


def test_a_failed_write_leaves_no_draft(tmp_path: Path) -> None:
    """Drafts that pile up beside the table would end in the registry."""
    (tmp_path / "calibration.json").mkdir()
    with pytest.raises(StorageError):
        write_table(
            CalibrationTable(model_digest="", set_digest="", samples=2, percentile=99.0, tensors={}),
            tmp_path / "calibration.json",
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["calibration.json"]


def test_not_a_number_is_refused_anywhere(table_file: Path) -> None:
    """NaN is no JSON; other readers of the file would fail on it, or worse, not."""
    table_file.write_text(table_file.read_text().replace('"percentile": 99.99', '"percentile": NaN'))
    with pytest.raises(DataError, match="NaN is not a number"):
        read_table(table_file)


def test_writing_replaces_and_leaves_nothing_else(table_file: Path) -> None:
    """The old table stays whole until the new one is; no temporary file stays."""
    table = read_table(table_file)
    write_table(table, table_file)
    assert read_table(table_file) == table
    assert [entry.name for entry in table_file.parent.iterdir()] == ["calibration.json"]
