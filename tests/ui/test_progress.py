"""Progress on a terminal, in a pipe, and switched off."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.ui.samples import ESCAPE, HOSTILE, Terminal
from trtd.ui.progress import StageProgress, duration


@dataclass(frozen=True)
class Event:
    stage: str
    done: int
    total: int | None
    note: str


def run(listener: StageProgress, subject: str = "ppocr-det") -> None:
    listener.stage_started(subject, "convert")
    listener.stage_finished(subject, "convert", 4.21)
    listener.stage_started(subject, "calibrate")
    listener.progress(subject, Event("calibrate", 0, None, ""))
    listener.progress(subject, Event("calibrate", 12, 64, f"page {HOSTILE}"))
    listener.stage_finished(subject, "calibrate", 12.9)
    listener.stage_finished(subject, "build", 0.0, cached=True)
    listener.stage_started(subject, "verify")
    listener.stage_waiting(subject, "verify", "process 4711 holds the lock")
    listener.stage_failed(subject, "verify", 75)


def test_pipe_gets_one_line_for_each_start_wait_and_end() -> None:
    """Bars in a CI log are thousands of lines of escape codes."""
    pipe = io.StringIO()
    with StageProgress(pipe) as listener:
        run(listener)
    assert pipe.getvalue().splitlines() == [
        "ppocr-det: convert started",
        "ppocr-det: convert finished in 4.2 s",
        "ppocr-det: calibrate started",
        "ppocr-det: calibrate finished in 12 s",
        "ppocr-det: build cached",
        "ppocr-det: verify started",
        "ppocr-det: verify waits, process 4711 holds the lock",
        "ppocr-det: verify failed after 1:15 min",
    ]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_stage_that_waits_says_for_whom(stream: Callable[[], io.StringIO | Terminal]) -> None:
    """A command that waits for the daemon's build would look hung, for an hour."""
    shown = stream()
    with StageProgress(shown, width=200) as listener:
        listener.stage_started("det", "verify")
        listener.stage_waiting("det", "verify", f"process 4711 ({HOSTILE}) holds the lock")
    assert "det: verify waits, process 4711 (" in ESCAPE.sub("", shown.getvalue())
    assert HOSTILE not in shown.getvalue()


def test_disabled_is_silent() -> None:
    """With --json nothing but the document may be printed, on a terminal neither."""
    for stream in (io.StringIO(), Terminal()):
        with StageProgress(stream, enabled=False) as listener:
            run(listener)
        assert stream.getvalue() == ""


def test_terminal_shows_a_bar_with_times_and_leaves_a_line_for_each_stage() -> None:
    """A build of minutes without a sign of life looks hung."""
    terminal = Terminal()
    with StageProgress(terminal, width=140) as listener:
        listener.stage_started("ppocr-det", "calibrate")
        for done in range(1, 33):
            listener.progress("ppocr-det", Event("calibrate", done, 64, HOSTILE))
        assert listener._bars is not None
        listener._bars.refresh()
        drawn = ESCAPE.sub("", terminal.getvalue())
        listener.stage_finished("ppocr-det", "calibrate", 12.9)
    assert "ppocr-det: calibrate" in drawn
    assert "32/64" in drawn
    assert " s" in drawn
    assert r"onerror=alert(1)>\x1b[31m[bold]\u202e" in drawn
    assert "✓ ppocr-det: calibrate finished in 12 s" in ESCAPE.sub("", terminal.getvalue())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_terminal_of_80_columns_in_any_encoding(encoding: str) -> None:
    """A long name or an old encoding must not break the display, let alone the build behind it."""
    terminal = Terminal(encoding)
    with StageProgress(terminal, width=80) as listener:
        listener.stage_started("überprüft-" * 12, "calibrate")
        listener.progress("überprüft-" * 12, Event("calibrate", 12, 64, "模型"))
        run(listener)
        assert listener._bars is not None
        listener._bars.refresh()
    assert "convert finished" in ESCAPE.sub("", terminal.getvalue())


def test_dumb_terminal_is_treated_as_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot move its cursor would print every frame of a bar."""
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with StageProgress(terminal) as listener:
        run(listener)
    assert "\x1b" not in terminal.getvalue()
    assert "ppocr-det: convert started" in terminal.getvalue()


def test_bars_leave_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Results printed while bars are up belong on standard output, where a script waits for them."""
    with StageProgress(Terminal(), width=80):
        stdout = sys.stdout
        sys.stdout.write("result\n")
    assert stdout is sys.stdout
    assert capsys.readouterr().out == "result\n"


def test_an_error_inside_ends_the_bars() -> None:
    """Bars that outlive an error leave a terminal without a cursor."""
    terminal = Terminal()
    with suppress(KeyError), StageProgress(terminal, width=80) as listener:
        listener.stage_started("a", "convert")
        raise KeyError("boom")
    hidden, shown = terminal.getvalue().rfind("\x1b[?25l"), terminal.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (9.99, "10.0 s"), (59.9, "59 s"), (60, "1:00 min"), (185, "3:05 min"), (3729, "1:02:09 h")],
)
def test_durations(seconds: float, text: str) -> None:
    """``60 s`` and ``1:60 min`` are what rounding makes of times near a minute."""
    assert duration(seconds) == text
