"""Fidelity is what the plain formulas over all values at once would say, and NaN wherever they say nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trtd.verify.metrics import FidelityAccumulator, sqnr_db
from trtd.verify.report import Fidelity

Array = np.ndarray[Any, Any]
VALUES = arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32))
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4)


def fidelity(*pairs: tuple[Any, Any]) -> Fidelity:
    accumulator = FidelityAccumulator()
    for reference, candidate in pairs:
        accumulator.update(np.asarray(reference), np.asarray(candidate))
    return accumulator.result()


def floats(*values: float) -> Array:
    return np.array([values], np.float32)


@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS)
def test_metrics_are_the_plain_formulas(pairs: Sequence[tuple[Array, Array]]) -> None:
    """Streaming changes nothing: everything over all items together, but the cosine, which is the worst item's."""
    x, y = (np.concatenate([pair[i].astype(np.float64).ravel() for pair in pairs]) for i in (0, 1))
    found = fidelity(*pairs)
    signal, noise = (x**2).sum(), ((y - x) ** 2).sum()
    assert found.elements == x.size
    assert found.max_abs_error == pytest.approx(np.abs(y - x).max())
    if signal and noise:
        assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
        assert found.relative_l2 == pytest.approx(math.sqrt(noise / signal))
    worst = 1.0
    for reference, candidate in pairs:
        a, b = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        worst = min(worst, float(a @ b / norms) if norms else float(np.array_equal(a, b)))
    assert found.cosine == pytest.approx(worst, abs=1e-9)
    agreed = np.mean([np.argmax(r, 1) == np.argmax(c, 1) for r, c in pairs])
    assert found.top1_agreement == pytest.approx(agreed)


@settings(max_examples=60, deadline=None)
@given(values=arrays(np.float32, st.integers(1, 40), elements=FINITE))
def test_identical_outputs_are_perfect(values: Array) -> None:
    """Exactly: a gate of cosine = 1 must hold, whatever the rounding of the sums."""
    found = fidelity((values, values.copy()))
    assert (found.cosine, found.relative_l2, found.max_abs_error) == (1.0, 0.0, 0.0)
    assert found.sqnr_db == math.inf


def test_the_cosine_is_the_worst_items() -> None:
    """One bad page among a hundred must not drown in their average."""
    good, bad = floats(1, 2, 3), floats(-3, 0, 1)
    assert fidelity(*[(good, good)] * 99, (good, bad)).cosine == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_value_that_is_no_number_breaks_everything(bad: float, side: int, position: int) -> None:
    """On either side, in whichever item: NaN passes no gate, while a mean over the rest would."""
    pairs = [[floats(1, 2), floats(1, 2)] for _ in range(3)]
    pairs[position][side] = floats(1, bad)
    found = fidelity(*((a, b) for a, b in pairs))
    for name in ("cosine", "sqnr_db", "relative_l2", "max_abs_error"):
        assert math.isnan(getattr(found, name)), name
    assert found.top1_agreement is None or math.isnan(found.top1_agreement)


def test_unlike_shapes_break_everything() -> None:
    """Broadcasting (1, 2) against (2, 2) would compare something that nobody computed."""
    found = fidelity((floats(1, 2), floats(1, 2)), (np.zeros((1, 2)), np.zeros((2, 2))))
    assert math.isnan(found.cosine)
    assert math.isnan(found.relative_l2)


def test_nothing_compared_is_not_a_pass() -> None:
    """No item, or only empty outputs (a detector that found no box): zero elements and NaN."""
    for found in (fidelity(), fidelity((np.zeros((0, 6)), np.zeros((0, 6))))):
        assert found.elements == 0
        assert math.isnan(found.cosine)
        assert math.isnan(found.sqnr_db)
        assert math.isnan(found.relative_l2)
        assert math.isnan(found.max_abs_error)


def test_an_empty_item_among_others_changes_nothing() -> None:
    """A page without text is no failure."""
    empty = np.zeros((0, 2), np.float32)
    item = (floats(3, 4), floats(3, 5))
    assert fidelity((empty, empty), item) == fidelity(item)


def test_a_reference_of_zeros() -> None:
    """Anything else than zero is infinitely wrong; zero is right."""
    wrong = fidelity((floats(0, 0), floats(0, 1e-3)))
    assert (wrong.cosine, wrong.sqnr_db, wrong.relative_l2) == (0.0, -math.inf, math.inf)
    right = fidelity((floats(0, 0), floats(0, 0)))
    assert (right.cosine, right.sqnr_db, right.relative_l2) == (1.0, math.inf, 0.0)
    dead = fidelity((floats(1, 1), floats(0, 0)))
    assert (dead.cosine, dead.relative_l2, dead.sqnr_db) == (0.0, 1.0, 0.0)


def test_the_largest_floats_do_not_overflow() -> None:
    """Differences of 6e38 fit no float32; a metric may not raise."""
    large = float(np.finfo(np.float32).max)
    accumulator = FidelityAccumulator()
    accumulator.update(floats(large, 1), floats(-large, 1))
    found = accumulator.result()
    assert found.max_abs_error == pytest.approx(2 * large)
    assert found.cosine == pytest.approx(-1)
    assert sum(accumulator.errors().counts) == 2


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_, np.float16, np.float64, np.uint8])
def test_outputs_of_every_type_are_compared(dtype: Any) -> None:
    """Class indices, masks, half precision."""
    reference = np.array([0, 1, 1, 0, 1], dtype)
    assert fidelity((reference, reference)).elements == 5
    found = fidelity((reference, np.array([0, 1, 0, 0, 1], dtype)))
    assert found.max_abs_error == 1
    assert found.relative_l2 == pytest.approx(math.sqrt(1 / 3))


def test_top1_counts_rows_and_takes_the_first_of_equals() -> None:
    """A saturated INT8 classifier gives two classes the same score; argmax takes the first on both sides."""
    reference = np.array([[1, 3, 2], [5, 0, 0], [2, 2, 1]], np.float32)
    candidate = np.array([[1, 2, 2], [0, 5, 0], [2, 2, 2]], np.float32)
    assert fidelity((reference, candidate)).top1_agreement == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1), (5,), ()])
def test_only_rows_of_classes_have_a_top1(shape: tuple[int, ...]) -> None:
    """Feature maps, single scores and vectors have no largest class."""
    values = np.ones(shape, np.float32)
    assert fidelity((values, values)).top1_agreement is None


def test_class_indices_have_no_top1() -> None:
    """An output of integers holds answers, not scores."""
    values = np.ones((2, 3), np.int64)
    assert fidelity((values, values)).top1_agreement is None


def test_probabilities_are_recognized_by_the_reference() -> None:
    """Rows that sum to one are class scores for certain; embeddings and logits may be anything."""
    rows = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    assert fidelity((rows, rows * 9)).probabilities
    assert not fidelity((rows * 9, rows)).probabilities
    assert not fidelity((rows, rows), (rows - 1, rows)).probabilities
    assert not fidelity((rows[0], rows[0])).probabilities


def test_errors_are_those_of_the_candidate() -> None:
    """The histogram's sign tells in which direction an engine is off."""
    accumulator = FidelityAccumulator()
    for shift in (0.25, 0.5):
        accumulator.update(np.zeros((1, 100)), np.full((1, 100), shift))
    errors = accumulator.errors()
    assert sum(errors.counts) == 200
    assert len(errors.edges) == len(errors.counts) + 1
    filled = [(low, high, n) for low, high, n in zip(errors.edges, errors.edges[1:], errors.counts, strict=False) if n]
    assert all(low <= 0.25 < high or low <= 0.5 < high for low, high, _ in filled)
    assert FidelityAccumulator().errors().counts == ()


@given(values=arrays(np.float32, 200, elements=st.floats(-1e3, 1e3, width=32)))
@settings(max_examples=40, deadline=None)
def test_error_histograms_count_everything_in_few_bins(values: Array) -> None:
    """A report of megabytes would not open; a lost tail would hide the worst errors."""
    accumulator = FidelityAccumulator()
    accumulator.update(np.zeros_like(values), values)
    errors = accumulator.errors()
    assert sum(errors.counts) == 200
    assert len(errors.counts) <= 65
    assert list(errors.edges) == sorted(errors.edges)
    for low, high, count in zip(errors.edges, errors.edges[1:], errors.counts, strict=False):
        assert count == ((values >= low) & (values < high)).sum()


def test_decibels() -> None:
    """Ten for each power of ten; no noise is infinite, no signal minus infinite."""
    assert sqnr_db(100.0, 1.0) == pytest.approx(20)
    assert (sqnr_db(1.0, 0.0), sqnr_db(0.0, 1.0), sqnr_db(0.0, 0.0)) == (math.inf, -math.inf, math.inf)
