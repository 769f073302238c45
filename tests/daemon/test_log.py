"""What the daemon writes down: lines that programs and people can read, whatever is in them and wherever they go."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.log import LONGEST_FIELD, Format, Handler, Log, set_up


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process's logging as it was."""
    root, ours, hook = logging.getLogger(), logging.getLogger("trtd"), threading.excepthook
    before = (root.handlers[:], root.level, ours.level)
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level, ours.level = before
    threading.excepthook = hook


def logged(message: str, form: Format = "json", level: str = "info", **fields: Any) -> str:
    """What one line of the given level becomes."""
    stream = io.StringIO()
    handler = Handler(stream, form, {})
    logger = logging.getLogger("trtd")
    record = logger.makeRecord(
        "trtd", getattr(logging, level.upper()), "", 0, "%s", (message,), None, extra={"trtd_fields": fields}
    )
    handler.emit(record)
    assert handler.lost == 0
    return stream.getvalue()


def test_a_line_of_json_has_its_fields() -> None:
    """Nobody could search the journal for one subject, or follow one attempt."""
    stream = io.StringIO()
    set_up(stream=stream)
    log = Log(subject="det.toml").bind(attempt=3)
    log.info("the build has started", stage="calibrate", digest="sha256:1", note=None, empty="")
    log.debug("not logged at this level")
    log.error("100% wrong", path=Path("/x"))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {key: value for key, value in first.items() if key != "ts"} == {
        "level": "info",
        "message": "the build has started",
        "subject": "det.toml",
        "attempt": 3,
        "stage": "calibrate",
        "digest": "sha256:1",
    }
    assert first["ts"].endswith("+00:00")
    assert (second["level"], second["message"], second["path"]) == ("error", "100% wrong", "/x")


def test_fields_do_not_pass_for_the_lines_own() -> None:
    """A spec could make an error look like a debug line of another day."""
    stream = io.StringIO()
    set_up(stream=stream)
    Log(level="debug", message="all is well", ts="1970").error("m")
    told = json.loads(stream.getvalue())
    assert (told["message"], told["level"]) == ("m", "error")
    assert told["ts"] != "1970"


NASTY = "det\x1b[2J\r\n2026 error forged\u202e\x00\udcff"


@pytest.mark.parametrize("form", ["json", "text"])
def test_foreign_text_does_not_act(form: Format) -> None:
    """A file's name would clear the terminal, or write a line of the log that never happened."""
    line = logged(NASTY, form, subject=NASTY)
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@given(message=st.text(), field=st.text(), form=st.sampled_from(["json", "text"]))
def test_any_text_makes_one_printable_line(message: str, field: str, form: Format) -> None:
    """One event would become two lines, or none."""
    line = logged(message, form, subject=field)
    assert line.endswith("\n")
    assert not {unicodedata.category(character) for character in line[:-1]} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    if form == "json":
        assert json.loads(line)["level"] == "info"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_odd_values_are_told_or_counted() -> None:
    """A field of a kind that JSON lacks would take the daemon down in the middle of a reconcile."""
    told = json.loads(logged("m", number=float("nan"), many={"a": (1, 2)}, other=object(), long="x" * 99999))
    assert told["number"] == "NaN"
    assert told["many"] == {"a": [1, 2]}
    assert told["other"].startswith("<object")
    assert len(told["long"]) == LONGEST_FIELD + 1
    handler = set_up(stream=io.StringIO())
    Log().info("m", field=Unprintable())
    assert handler.lost == 1


def test_text_is_for_people() -> None:
    """At a terminal nobody wants to read JSON."""
    line = logged("the build has started", "text", level="warning", subject="det.toml", note="two words")
    assert line[8:] == ' warning the build has started  subject=det.toml  note="two words"\n'


def through_a_terminal(code: str) -> str:
    """What a program prints whose standard error is a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=follower)
    os.close(follower)
    assert process.wait(60) == 0
    said = os.read(leader, 65536).decode()
    os.close(leader)
    return said


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    """`trtd run` in a terminal would print JSON, or the journal would get text that nothing takes apart."""
    code = "from trtd.daemon.log import *; set_up(); Log().info('hello', subject='a')"
    assert through_a_terminal(code)[8:].rstrip() == " info    hello  subject=a"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(piped.stderr)["subject"] == "a"


def test_only_journald_gets_priorities(tmp_path: Path) -> None:
    """All lines would have one priority in the journal; or files would be full of <6>."""
    with (tmp_path / "log").open("w+") as file:
        status = os.fstat(file.fileno())
        for environ in ({}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}):
            set_up("debug", stream=file, environ=environ)
            Log().info("i")
        for say in (Log().debug, Log().warning, Log().error):
            say("x")
        lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition("{")[0] for line in lines] == ["", "", "<6>", "<7>", "<4>", "<3>"]


def test_a_new_set_up_replaces_the_old_one() -> None:
    """After each reload every line would be written once more."""
    first, second = io.StringIO(), io.StringIO()
    set_up(stream=first)
    set_up("error", stream=second)
    Log().info("i")
    Log().error("e")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_what_a_thread_dies_of_is_one_line() -> None:
    """A trace over 20 lines is 20 events to a log shipper; none at all, and nobody knows why events stopped."""
    stream = io.StringIO()
    set_up(stream=stream)
    thread = threading.Thread(target=lambda: 1 / 0, name="observer")
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("from a library", stacklevel=1)
    logging.getLogger("watchdog").warning("%d lost", 3)
    died, warned, other = map(json.loads, stream.getvalue().splitlines())
    assert (died["thread"], died["level"]) == ("observer", "error")
    assert died["exception"].endswith("ZeroDivisionError: division by zero\n")
    assert "from a library" in warned["message"]
    assert (other["logger"], other["message"]) == ("watchdog", "3 lost")


def test_a_closed_or_full_standard_error_ends_nothing(tmp_path: Path) -> None:
    """A full disk behind the log would stop all builds, or turn a clean exit into a failure."""
    code = "from trtd.daemon.log import *; h = set_up(); [Log().info('x' * 5000) for _ in range(9)]; print(h.lost)"
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True)
    assert (ran.returncode, ran.stdout) == (0, "9\n")
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert (closed.returncode, closed.stdout) == (0, "9\n")
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert (gone.returncode, gone.stdout) == (0, "9\n")


def test_a_terminal_of_another_encoding_gets_what_it_can_show() -> None:
    """Under LC_ALL=C each name with an umlaut would be lost."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="ascii") as stream:
        handler = set_up(form="text", stream=cast("TextIO", stream))
        Log().info("größer")
    assert handler.lost == 0
    with os.fdopen(read, "rb") as pipe:
        assert b"gr\\xf6\\xdfer" in pipe.read()
