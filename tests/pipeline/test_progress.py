"""Progress: throttled where it is written, distrusted where it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.pipeline.progress import EventReader, Progress, ProgressEvent, parse_event, pipe_sender


class Clock:
    """A stand-in clock that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    for fd in (read_fd, write_fd):
        try:
            os.close(fd)
        except OSError:
            continue


def test_updates_pass_at_10_hz_with_first_and_last() -> None:
    """A loop of a million items would write a million events, or the bar would stop before its end."""
    clock = Clock()
    events: list[ProgressEvent] = []
    progress = Progress("s", events.append, clock=clock)
    for _ in progress.track(range(1000), note="n"):
        clock.now_s += 0.005
    assert (events[0].done, events[-1].done) == (0, 1000)
    assert 45 <= len(events) <= 52


def test_a_new_step_shows_at_once_but_cannot_flood() -> None:
    """'loading' would stay on the screen through a long 'converting'; or a note for each item would flood."""
    clock = Clock()
    events: list[ProgressEvent] = []
    progress = Progress("s", events.append, clock=clock)
    progress(0, 9, "loading")
    progress(0, 9, "converting")
    assert [event.note for event in events] == ["loading", "converting"]
    for index in range(1000):
        progress(0, 9, f"item {index}")
    assert len(events) <= 10


def test_track_counts_iterators_of_unknown_length() -> None:
    """A generator's end would never show."""
    events: list[ProgressEvent] = []
    assert list(Progress("s", events.append, clock=Clock()).track(iter("abc"))) == list("abc")
    assert events[0] == ProgressEvent("s", 0, None)
    assert events[-1] == ProgressEvent("s", 3, 3)


def test_writing_never_fails_a_stage(pipe: tuple[int, int]) -> None:
    """A launcher that stopped reading would kill a stage that is all but done."""
    read_fd, write_fd = pipe
    os.close(read_fd)
    progress = Progress("s", pipe_sender(write_fd))
    progress(1, 1)
    progress(2, 2)


def test_long_notes_stay_one_atomic_line(pipe: tuple[int, int]) -> None:
    """Two threads' events would mix in the pipe (writes are atomic up to 4096 bytes)."""
    read_fd, write_fd = pipe
    Progress("s", pipe_sender(write_fd))(10**15, 10**15, "🙂" * 10_000)
    line = os.read(read_fd, 65536)
    assert len(line) <= 4096
    assert json.loads(line)["done"] == 10**15


@given(st.binary())
def test_any_bytes_are_an_event_or_nothing(line: bytes) -> None:
    """A library that writes to the descriptor would crash the launcher."""
    event = parse_event("s", line)
    assert event is None or event.stage == "s"


@pytest.mark.parametrize(
    "line", [b"", b"1", b"[]", b'{"done": 1}', b'{"done": "1", "total": 2, "note": ""}', b"\xff", b"[" * 50_000]
)
def test_what_is_no_event_is_dropped(line: bytes) -> None:
    """A malformed line would reach the display with fields of wrong types."""
    assert parse_event("s", line) is None


def test_notes_are_cleaned() -> None:
    """A file name shown as a note could steer the terminal."""
    line = json.dumps({"done": 1, "total": None, "note": "a\x1b[2J\nb" + "x" * 999}).encode()
    event = parse_event("s", line)
    assert event is not None
    assert event.note.startswith("a bxx")
    assert len(event.note) == 300


@given(st.lists(st.integers(1, 40), max_size=20))
def test_events_are_whole_however_the_bytes_arrive(cuts: list[int]) -> None:
    """An event that arrives in two reads would be lost or read twice."""
    lines = [json.dumps({"done": i, "total": 9, "note": "n"}).encode() for i in range(9)]
    data = b"\n".join(lines) + b"\n"
    events: list[ProgressEvent] = []
    read_fd, write_fd = os.pipe()
    reader = EventReader("s", read_fd, events.append)
    for cut in [*cuts, len(data)]:
        chunk, data = data[:cut], data[cut:]
        os.write(write_fd, chunk)
        reader.wait(0)
    os.close(write_fd)
    reader.drain()
    reader.close()
    assert [event.done for event in events] == list(range(9))


def test_a_line_without_end_is_not_hoarded(pipe: tuple[int, int]) -> None:
    """A stray writer of gigabytes without a newline would fill the launcher's memory."""
    read_fd, write_fd = pipe
    events: list[ProgressEvent] = []
    reader = EventReader("s", os.dup(read_fd), events.append)
    for _ in range(4):
        os.write(write_fd, b"x" * 40_000)
        reader.drain()
    os.write(write_fd, b'\n{"done": 1, "total": 1, "note": ""}\n')
    reader.drain()
    reader.close()
    assert events == [ProgressEvent("s", 1, 1)]
