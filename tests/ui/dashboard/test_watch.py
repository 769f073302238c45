"""The dashboard on a real pseudo terminal: it comes, follows the terminal's size, and leaves as if it had not been."""

from __future__ import annotations

import os
import signal

import pytest

from tests.ui.dashboard.terminals import ENTERED, LEFT, Session


@pytest.mark.parametrize("ending", [b"q", b"\x03", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_leaves_the_terminal_as_it_found_it(ending: bytes | signal.Signals) -> None:
    """A shell without echo, or with a screen full of remains."""
    with Session() as session:
        session.wait_for("ppocr-rec")
        assert ENTERED in session.output
        if isinstance(ending, bytes):
            session.press(ending)
        else:
            session.process.send_signal(ending)
        session.end()
        assert LEFT in session.output
        assert session.is_as_before()


@pytest.mark.parametrize("mode", ["bug", "unreadable"])
def test_trouble_while_looking(mode: str) -> None:
    """A traceback on a screen that is thrown away; or the end, because a disk was busy for a moment."""
    with Session(mode) as session:
        session.wait_for("ppocr-rec")
        if mode == "bug":
            assert session.end() != 0
            session.wait_for("a bug in the reader", after=session.output.index(LEFT))
        else:
            session.wait_for("cannot be read")
            session.press(b"q")
            assert session.end() == 0
        assert session.is_as_before()


def test_it_follows_the_size_of_the_terminal() -> None:
    """After a resize it would be drawn over itself."""
    with Session(size=(80, 24)) as session:
        before = session.wait_for("ppocr-rec")
        session.resize((200, 60))
        os.kill(session.process.pid, signal.SIGWINCH)
        session.wait_for(b"\x1b[60;1H", after=before)
        session.press(b"q")
        assert session.end() == 0


def test_without_colour() -> None:
    """People who cannot tell the colours apart, or do not want them, set NO_COLOR everywhere."""
    with Session(NO_COLOR="1") as session:
        session.wait_for("ppocr-rec")
        session.press(b"q")
        session.end()
        assert not any(f"\x1b[{attributes}".encode() in session.output for attributes in ("31m", "38;", "48;", "1;31m"))


def test_a_closed_terminal_ends_it() -> None:
    """It would go on for ever, reading the state of a registry for nobody."""
    with Session() as session:
        session.wait_for("ppocr-rec")
        os.close(session.slave)
        os.close(session.master)
        session.slave = session.master = -1
        assert session.process.wait(30) is not None
