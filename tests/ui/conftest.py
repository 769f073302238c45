"""What the tests of this room share: see samples.py for how it is made."""

from __future__ import annotations

import pytest

from tests.ui.samples import make_hostile, make_report, make_table
from trtd.calibrate.table import CalibrationTable
from trtd.verify.report import Report


@pytest.fixture
def report() -> Report:
    return make_report()


@pytest.fixture
def missed_report() -> Report:
    return make_report(missed=True)


@pytest.fixture
def hostile_report() -> Report:
    return make_hostile()


@pytest.fixture(scope="session")
def table() -> CalibrationTable:
    return make_table()


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests must not decide them."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
