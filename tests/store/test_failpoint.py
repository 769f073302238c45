"""Failpoints do nothing in production and exactly what they say in tests."""

from __future__ import annotations

import errno
import signal

import pytest

from tests.store.children import run_in_child
from trtd.errors import UsageError
from trtd.store.failpoint import VARIABLE, failpoint


def test_nothing_happens_without_the_variable_or_at_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failpoint that fires unasked would break production."""
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("here")
    monkeypatch.setenv(VARIABLE, "there:error=EIO")
    failpoint("here")


def test_an_error_is_raised_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of full disks rest on this."""
    monkeypatch.setenv(VARIABLE, "here:error=EDQUOT")
    with pytest.raises(OSError, match="quota") as caught:
        failpoint("here")
    assert caught.value.errno == errno.EDQUOT


@pytest.mark.parametrize("value", ["here", "here:kill"])
def test_kill_ends_the_process_without_cleaning_up(value: str) -> None:
    """If it raised SystemExit instead, the crash tests would run the very cleanup they must do without."""
    assert run_in_child(lambda: failpoint("here"), value) == -signal.SIGKILL


def test_a_misspelt_action_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that injects nothing by mistake would pass for the wrong reason."""
    monkeypatch.setenv(VARIABLE, "here:error=ENOSUCH")
    with pytest.raises(UsageError, match="ENOSUCH"):
        failpoint("here")
