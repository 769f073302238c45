"""What the daemon writes down, and what people are shown of it: while it runs, after it died, and across versions."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.messages import Save
from trtd.daemon.snapshot import SnapshotReader, read_snapshot
from trtd.daemon.state import State, text_of
from trtd.errors import StorageError
from trtd.registry.layout import Registry
from trtd.status import (
    PHASES,
    Condition,
    DaemonStatus,
    DeviceStatus,
    EngineStatus,
    Event,
    Problem,
    Snapshot,
    StageStatus,
    SubjectStatus,
    WatchStatus,
    daemon_from,
    event_from,
    stage_from,
    subject_from,
)
from trtd.store.failpoint import VARIABLE
from trtd.store.process import start_ticks
from trtd.store.state import EVENTS_KEPT, FILE_NAME


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry")
    made.private.mkdir(parents=True)
    return made


@pytest.fixture
def state(registry: Registry) -> Iterator[State]:
    opened = State.open(registry)
    yield opened
    opened.close()


def subject(key: str, **more: Any) -> SubjectStatus:
    return SubjectStatus(key, key.removesuffix(".toml"), "onnxruntime-cpu", more.pop("phase", "ready"), **more)


def save(key: str, **more: Any) -> Save:
    return Save(subject(key, **more), f"memory of {key}")


def daemon(pid: int, ticks: int) -> DaemonStatus:
    return DaemonStatus(pid, ticks, "1.0", "/r", 100.0, watches=(WatchStatus("specs", "events"),))


def this_process() -> DaemonStatus:
    return daemon(os.getpid(), start_ticks(os.getpid()) or 0)


TEXT = st.text(max_size=6)
NUMBER = st.floats(allow_nan=False) | st.none()
WHEN = st.floats(0)
CONDITION = st.builds(Condition, st.just("Ready"), st.none() | st.booleans(), TEXT, TEXT, WHEN)
RECORDS: dict[Any, st.SearchStrategy[Any]] = {
    subject_from: st.builds(
        SubjectStatus,
        key=TEXT,
        name=TEXT,
        target=TEXT,
        phase=st.sampled_from(PHASES),
        conditions=st.tuples(CONDITION),
        engines=st.tuples(st.builds(EngineStatus, TEXT, TEXT, cosine=NUMBER, published_at=NUMBER)) | st.just(()),
        problem=st.none() | st.builds(Problem, TEXT, TEXT, TEXT, TEXT),
        reasons=st.tuples(TEXT, TEXT),
        log=st.none() | TEXT,
    ),
    stage_from: st.builds(StageStatus, TEXT, TEXT, WHEN, finished=st.tuples(st.tuples(TEXT, WHEN, st.booleans()))),
    daemon_from: st.builds(
        DaemonStatus,
        st.integers(),
        st.integers(),
        TEXT,
        TEXT,
        WHEN,
        watches=st.tuples(st.builds(WatchStatus, TEXT, st.just("polling"), TEXT)),
        devices=st.tuples(st.builds(DeviceStatus, TEXT, TEXT, st.integers(), st.integers())),
        degraded=st.tuples(TEXT),
    ),
    event_from: st.builds(Event, WHEN, st.just("daemon"), TEXT, TEXT, TEXT),
}  # fmt: skip


@pytest.mark.parametrize("read", RECORDS, ids=lambda read: read.__name__)
@given(data=st.data())
def test_records_come_back_as_they_were(read: Callable[[dict[str, Any]], object], data: st.DataObject) -> None:
    """The dashboard would show something else than what the daemon said: of odd names, of what is not known."""
    record = data.draw(RECORDS[read])
    text = text_of(record)
    assert text.isascii(), "the database takes no lone surrogates"
    assert read(json.loads(text)) == record


def test_everything_that_was_told_is_in_the_snapshot(registry: Registry, state: State) -> None:
    """People would see a part of what the daemon does."""
    was_dirty = state.is_dirty
    stage = StageStatus("b-int8", "convert", 5.0, 1, 3, "note", (("x", 1.0, True),))
    events = [Event(float(number), "failed", "b.toml", "b", f"event {number}") for number in range(3)]
    state.save(save("b.toml", phase="building"))
    state.save(save("a.toml"))
    state.progress("b.toml", stage, "/logs/b.log")
    for event in events:
        state.tell(event)
    state.describe(this_process())
    assert (was_dirty, state.is_dirty) == (False, True)
    reader = SnapshotReader(registry)
    assert reader.read() == Snapshot(None, False, (), {}, ())
    state.flush()
    numbered = tuple(replace(event, id=number) for number, event in enumerate(events, 1))
    subjects = (subject("a.toml"), subject("b.toml", phase="building"))
    assert reader.read() == Snapshot(this_process(), True, subjects, {"b.toml": stage}, numbered)
    assert reader.running_log("b.toml") == "/logs/b.log"
    assert reader.running_log("a.toml") == ""
    assert reader.events_of("b.toml", 2) == numbered[1:]
    assert not state.is_dirty
    assert reader.read() is reader.read(), "nothing changed, and everything would be drawn again"
    assert read_snapshot(registry) == reader.read()
    reader.close()


def test_only_what_changed_is_read_again(registry: Registry, state: State) -> None:
    """A dashboard over 5,000 specs would take a core."""
    for number in range(50):
        state.save(save(f"{number:02}.toml"))
    state.describe(this_process())
    state.flush()
    reader = SnapshotReader(registry)
    first = reader.read()
    state.progress("07.toml", StageStatus("7", "convert", 1.0))
    state.flush()
    second = reader.read()
    assert second.subjects is first.subjects
    assert second.live == {"07.toml": StageStatus("7", "convert", 1.0)}
    state.forget("03.toml")
    state.save(save("05.toml", phase="paused"))
    state.progress("07.toml", None)
    state.flush()
    third = reader.read()
    assert [s.key for s in third.subjects] == [f"{number:02}.toml" for number in range(50) if number != 3]
    changed = [s for s in third.subjects if s is not first.subjects[int(s.name)]]
    assert changed == [subject("05.toml", phase="paused")]
    assert third.live == {}
    reader.close()


def test_the_next_daemon_gets_the_memories_and_the_last_word_counts(registry: Registry, state: State) -> None:
    """Pauses would be lost, or a forgotten spec would come back with its failures."""
    state.save(Save(subject("a.toml"), "old"))
    state.save(Save(subject("a.toml"), "new"))
    state.remember("a.toml", "scan of a")
    state.save(save("gone.toml"))
    state.remember("gone.toml", "scan")
    state.forget("gone.toml")
    state.flush()
    state.save(save("again.toml"))
    state.forget("a.toml")
    state.save(Save(subject("a.toml"), "another spec under its name"))
    state.flush()
    state.close()
    heir = State.open(registry)
    assert dict(heir.memories()) == {"a.toml": "another spec under its name", "again.toml": "memory of again.toml"}
    assert dict(heir.scans()) == {}


def test_what_could_not_be_written_is_written_later(
    registry: Registry, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a minute would cost what happened in it."""
    state.save(save("a.toml"))
    state.tell(Event(1.0, "failed", "a.toml", "a", "once"))
    state.describe(this_process())
    monkeypatch.setenv(VARIABLE, "state.before-commit:error=ENOSPC")
    for _ in range(2):
        with pytest.raises(StorageError, match="the disk is full"):
            state.flush()
        assert state.is_dirty
    monkeypatch.delenv(VARIABLE)
    state.save(save("a.toml", phase="paused"))
    state.flush()
    found = read_snapshot(registry)
    assert [s.phase for s in found.subjects] == ["paused"]
    assert [event.text for event in found.events] == ["once"]


def test_events_that_cannot_be_written_do_not_pile_up(state: State) -> None:
    """A disk that stays full would take the memory as well."""
    for number in range(EVENTS_KEPT + 10):
        state.tell(Event(1.0, "failed", "a.toml", "a", str(number)))
    assert len(state._events) == EVENTS_KEPT


def test_a_spoilt_database_is_told_of_once(registry: Registry) -> None:
    """Nobody would learn why a pause was lost."""
    (registry.private / FILE_NAME).write_text("spoilt " * 100)
    state = State.open(registry)
    assert "put aside" in state.take_note()
    assert (state.take_note(), state.take_lost()) == ("", False)
    state.close()


def test_a_daemon_that_died_is_not_alive_and_builds_nothing(registry: Registry, state: State) -> None:
    """The dashboard would show a daemon at work that was killed yesterday, or take another process for it."""
    state.save(save("a.toml", phase="building"))
    state.progress("a.toml", StageStatus("a", "convert", 1.0), "/log")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        state.describe(daemon(process.pid, start_ticks(process.pid) or 0))
        state.flush()
        reader = SnapshotReader(registry)
        alive = reader.read()
        assert alive.alive
        assert alive.live
        process.kill()
    dead = reader.read()
    assert (dead.alive, dead.live, dead.daemon) == (False, {}, alive.daemon)
    assert reader.running_log("a.toml") == ""
    assert reader.read() is dead
    state.describe(daemon(os.getpid(), 1))  # the number was given to another process
    state.flush()
    assert not reader.read().alive
    reader.close()


def test_a_new_daemon_over_a_new_database_is_followed(registry: Registry, state: State) -> None:
    """A dashboard that stays open would show the old daemon for ever."""
    state.save(save("a.toml"))
    state.flush()
    state.close()
    reader = SnapshotReader(registry)
    assert [s.key for s in reader.read().subjects] == ["a.toml"]
    (registry.private / FILE_NAME).unlink()
    assert reader.read().subjects == ()
    other = State.open(registry)
    other.save(save("b.toml"))
    other.describe(this_process())
    other.flush()
    assert [s.key for s in reader.read().subjects] == ["b.toml"]
    assert reader.read().alive
    other.close()
    reader.close()


BAD_TEXTS = ["no JSON", "[]", "{}", '{"key": 1}', "7", '{"problem": {"colour": 1}}', "null"]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_what_another_version_wrote_is_not_fatal(registry: Registry, state: State, text: str) -> None:
    """After an upgrade, one word that is not understood would take away the sight of everything."""
    state.save(save("a.toml"))
    state.save(save("b.toml"))
    state.progress("a.toml", StageStatus("a", "convert", 1.0))
    state.tell(Event(1.0, "failed", "a.toml", "a", "text"))
    state.describe(this_process())
    state.flush()
    connection = sqlite3.connect(registry.private / FILE_NAME)
    connection.execute("UPDATE subjects SET status = ? WHERE key = 'a.toml'", (text,))
    connection.execute("UPDATE live SET stage = ?", (text,))
    connection.execute("UPDATE events SET text = ?", (text,))
    newer = json.loads(text_of(this_process())) | {"of a later version": 1}
    connection.execute("UPDATE meta SET value = ? WHERE key = 'daemon'", (json.dumps(newer),))
    connection.commit()
    found = read_snapshot(registry)
    assert [s.key for s in found.subjects] == ["a.toml", "b.toml"]
    problem = found.subjects[0].problem
    assert problem is not None
    assert "restart" in problem.hint
    assert (found.live, found.events) == ({}, ())
    assert found.alive, "a daemon of another version is a daemon"
    connection.execute("UPDATE meta SET value = ? WHERE key = 'daemon'", (text,))
    connection.commit()
    connection.close()
    assert read_snapshot(registry).daemon is None
