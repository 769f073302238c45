"""Engine, FP32 graph and reference meet item by item and output by output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.verify.runners import StandInRunner, adding
from trtd.calibrate.items import Batch, ItemRef
from trtd.errors import ConversionError
from trtd.verify.compare import compare, tensor_errors

Array = np.ndarray[Any, Any]


def batches(*arrays: Array, items: int | None = None) -> list[Batch]:
    """One batch of each array; ``items`` of its rows are real, the rest fills it up."""
    made = []
    for number, array in enumerate(arrays):
        count = items if items is not None else len(array)
        made.append(Batch(tuple(ItemRef(f"{number}-{i}") for i in range(count)), {"x": array}))
    return made


ONE, TWO = np.array([[3.0, 4.0]], np.float32), np.array([[6.0, 8.0]], np.float32)


def test_the_engine_and_the_fp32_graph_are_held_against_the_reference() -> None:
    """Not against each other: the difference of the two is what quantization alone costs."""
    found = compare(adding(1.0), adding(0.25), batches(ONE, TWO), lambda n: [[ONE, TWO][n]])
    assert found.items == 2
    assert found.fidelity()["y"].max_abs_error == 1.0
    assert found.conversion()["y"].max_abs_error == 0.25
    assert found.fidelity()["y"].relative_l2 == pytest.approx(math.sqrt(4 / 125))
    assert sum(found.errors()["y"].counts) == 4


def test_references_are_matched_by_number_and_order() -> None:
    """Paddle names its outputs otherwise than the converted graph; their order is what they share."""
    outputs = ("second_name", "first_name")
    engine = StandInRunner(lambda feeds: {"first_name": feeds["x"] * 0, "second_name": feeds["x"]}, outputs)
    asked: list[int] = []

    def references(number: int) -> list[Array]:
        asked.append(number)
        return [[ONE, TWO][number], np.zeros((1, 2), np.float32)]

    seen: list[tuple[list[str], list[str]]] = []
    found = compare(
        engine, engine, batches(ONE, TWO), references,
        observe=lambda mine, theirs: seen.append((sorted(mine), list(theirs))),
    )  # fmt: skip
    assert asked == [0, 1]
    assert [f.relative_l2 for f in found.fidelity().values()] == [0, 0]
    assert list(found.fidelity()) == list(outputs)
    assert seen == [(sorted(outputs), list(outputs))] * 2


def test_a_missing_output_is_an_error() -> None:
    """Zipping three references with two outputs would leave one unjudged."""
    with pytest.raises(ConversionError, match=r"has 2 outputs, the converted one 1 \(y\)"):
        compare(adding(0), adding(0), batches(ONE), lambda n: [ONE, ONE])


def test_without_items_nothing_was_compared() -> None:
    """Which no gate lets pass."""
    found = compare(adding(0), adding(0), [], lambda n: [ONE])
    assert found.items == 0
    assert found.fidelity()["y"].elements == 0
    assert math.isnan(found.fidelity()["y"].cosine)


def shifted_rows(*shifts: float) -> StandInRunner:
    """Adds another number to each row."""
    return StandInRunner(lambda feeds: {"y": feeds["x"] + np.array(shifts, np.float32).reshape(-1, 1)})


def test_items_of_a_batch_are_judged_one_by_one() -> None:
    """The cosine is the worst item's; over the whole batch a bad item would hide behind large good ones."""
    rows = np.array([[1000.0, 1000.0], [1.0, -1.0]], np.float32)
    engine = StandInRunner(lambda feeds: {"y": feeds["x"] * np.array([[1.0], [-1.0]], np.float32)})
    assert compare(engine, engine, batches(rows), lambda n: [rows]).fidelity()["y"].cosine == pytest.approx(-1)


def test_rows_that_fill_a_batch_up_do_not_count() -> None:
    """A model of fixed batch 4 is fed repeats behind the last item."""
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = compare(shifted_rows(0, 0.5, 99, 99), adding(0), batches(rows, items=2), lambda n: [rows])
    assert found.items == 2
    assert found.fidelity()["y"].elements == 4
    assert found.fidelity()["y"].max_abs_error == 0.5


@pytest.mark.parametrize("fed", [1, 2])
def test_outputs_of_another_number_of_rows_are_compared_whole(fed: int) -> None:
    """A detector gives a row for each box, whatever was fed: all of them count, not one an item."""
    boxes = np.arange(30, dtype=np.float32).reshape(5, 6)
    wrong = boxes.copy()
    wrong[4, 5] += 7
    engine = StandInRunner(lambda feeds: {"y": wrong})
    found = compare(engine, engine, batches(np.zeros((fed, 2), np.float32)), lambda n: [boxes]).fidelity()["y"]
    assert found.elements == 30
    assert found.max_abs_error == 7


def test_an_unlike_shape_fails_and_does_not_raise() -> None:
    """A detector that finds one box more in INT8 has missed its gates; the report should still be written."""
    engine = StandInRunner(lambda feeds: {"y": np.zeros((3, 6), np.float32)})
    found = compare(engine, engine, batches(ONE), lambda n: [np.zeros((2, 6), np.float32)])
    assert math.isnan(found.fidelity()["y"].cosine)


def test_progress_counts_items() -> None:
    """Not batches: the total that it is held against is in items."""
    told: list[int] = []
    both = np.concatenate([ONE, TWO])
    compare(adding(0), adding(0), batches(both, both, ONE), lambda n: [[both, both, ONE][n]], progress=told.append)
    assert told == [2, 4, 5]


def _inner(values: Mapping[str, float]) -> StandInRunner:
    return StandInRunner(
        lambda feeds: {name: feeds["x"] * np.float32(value) for name, value in values.items()}, tuple(values)
    )


def test_inner_tensors_are_sorted_worst_first() -> None:
    """The first one is named in the advice; NaN is worse than any number."""
    fp32 = _inner({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0})
    engine = _inner({"a.dq": 1.01, "b.dq": 1.5, "c.dq": 1.0, "d.dq": math.nan})
    tensors = {name: f"{name}.dq" for name in "abcd"}
    producers = {name: (f"node_{name}", "Conv") for name in "abcd"}
    errors = tensor_errors(engine, fp32, [{"x": ONE}, {"x": TWO}], tensors, producers)
    assert [error.tensor for error in errors] == ["d", "b", "a", "c"]
    assert (errors[1].node, errors[1].op) == ("node_b", "Conv")
    assert errors[1].sqnr_db == pytest.approx(20 * math.log10(1 / 0.5), abs=1e-4)
    assert errors[3].sqnr_db == math.inf
    assert math.isnan(errors[0].sqnr_db)
