"""How numbers are written: nothing that is rounded may tell another story than the number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.ui import figures
from trtd.verify.report import Gate, Report

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(finite, finite, st.sampled_from([">=", "<="]))
def test_a_measured_value_stands_on_its_side_of_the_bound(value: float, bound: float, comparison: str) -> None:
    """``0.99 missed the bound 0.99`` is what rounding a measured 0.98996 would say."""
    gate = Gate(name="cosine", output="", comparison=comparison, bound=bound, measured=value, passed=True)  # type: ignore[arg-type]
    shown = float(figures.measured(gate))
    assert (shown > bound, shown < bound) == (value > bound, value < bound)


@given(st.floats(0, 1))
def test_a_share_is_whole_only_if_it_is(share: float) -> None:
    """``100 %`` agreement with one disagreeing item is untrue."""
    text = figures.share(share)
    assert (text == "100 %") == (share == 1)
    assert (text == "0 %") == (share == 0)


@given(st.floats(-1, 1))
def test_a_cosine_is_one_only_if_it_is(cosine: float) -> None:
    """A cosine of 1 claims that nothing was lost."""
    assert (figures.cosine(cosine) == "1") == (cosine == 1)


@pytest.mark.parametrize(
    ("value", "text"), [(0.4123, "0.412"), (4.7349, "4.73"), (47.349, "47.3"), (128.4, "128"), (12400.0, "12,400")]
)
def test_milliseconds(value: float, text: str) -> None:
    """Three digits are what a timing is good for; an exponent is nothing anybody reads."""
    assert figures.millis(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(9_742_118, 2_631_224, "9.7 → 2.6 MB"), (1_200_000, 700_000, "1.2 MB → 700 kB"), (999_999, 12, "1.0 MB → 12 B")],
)
def test_sizes(before: int, after: int, text: str) -> None:
    """``1000.0 kB`` and a unit that belongs to only one of the numbers are the usual slips."""
    assert figures.byte_change(before, after) == text


def test_what_is_not_a_number_is_named() -> None:
    """A NaN that prints as an empty cell or crashes the table hides the failure it stands for."""
    for write in (figures.number, figures.millis, figures.ratio, figures.decibels, figures.share, figures.cosine):
        assert write(math.nan) == "NaN"
    assert figures.decibels(math.inf) == "exact"


def test_verdicts(report: Report, missed_report: Report, hostile_report: Report) -> None:
    """No gates is not a pass, and NaN is worse than any number."""
    assert figures.verdict(report) == "passed 4 gates"
    assert figures.verdict(missed_report) == "missed 1 of 4 gates"
    assert figures.verdict(report.model_copy(update={"gates": ()})) == "no gates: nothing was judged"
    mixed = report.model_copy(update={"fidelity": {**report.fidelity, **hostile_report.fidelity}})
    worst = figures.worst_sqnr(mixed)
    assert worst is not None
    assert math.isnan(worst[1])
