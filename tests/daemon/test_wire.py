"""What comes out of a build process's pipe is read piece by piece, and believed only as far as it makes sense."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.daemon.account import Account
from trtd.daemon.ending import CANCELLED, Ending, outcome_of
from trtd.daemon.event_pipe import LINE_LIMIT_BYTES, EventPipe
from trtd.daemon.messages import EngineOutcome, Failure, Outcome
from trtd.daemon.wire import LONGEST_TEXT, as_failure, outcome_data, outcome_from
from trtd.errors import Diagnostic, GateMissed, SpecError, TrtdError
from trtd.status import EngineStatus, Problem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PROBLEMS = st.builds(Problem, *[st.text(max_size=20)] * 4)
FAILURES = st.builds(Failure, PROBLEMS, st.sampled_from(["never", "wait", "backoff"]))
NUMBERS = st.none() | st.floats(allow_nan=False)
COUNTS = st.none() | st.integers(0, 2**63)
STATUSES = st.builds(
    EngineStatus, st.text(max_size=9), st.text(max_size=9), COUNTS, NUMBERS, NUMBERS, NUMBERS, COUNTS, COUNTS, NUMBERS
)
ENGINES = st.builds(
    EngineOutcome, STATUSES, st.text(max_size=9), st.booleans(), st.none() | FAILURES, unchanged=st.booleans()
)
OUTCOMES = st.builds(Outcome, st.text(max_size=9), st.lists(ENGINES, max_size=3).map(tuple), st.none() | FAILURES)


@contextmanager
def pipe() -> Iterator[tuple[EventPipe, int]]:
    read_fd, write_fd = os.pipe()
    reader = EventPipe(read_fd, 0.0)
    try:
        yield reader, write_fd
    finally:
        os.close(write_fd)
        reader.close()


@given(OUTCOMES)
def test_an_outcome_survives_the_pipe(outcome: Outcome) -> None:
    """A failure would change its class on the way, or a figure be lost."""
    assert outcome_from(json.loads(json.dumps(outcome_data(outcome)))) == outcome


@given(OUTCOMES, JSON, st.randoms())
def test_a_spoilt_outcome_is_refused_or_sound(outcome: Outcome, junk: Any, chance: Any) -> None:
    """Garbage would reach the reconciler, and end the daemon far from where it came in."""
    data = outcome_data(outcome)
    places: list[tuple[Any, Any]] = [(data, key) for key in data]
    for engine in data["engines"]:
        places += [(engine, key) for key in engine] + [(engine["status"], key) for key in engine["status"]]
    holder, key = chance.choice(places)
    holder[key] = junk
    try:
        made = outcome_from(data)
    except ValueError:
        return
    assert outcome_from(outcome_data(made)) == made
    assert all(isinstance(engine.status.name, str) for engine in made.engines)


@given(JSON)
def test_no_data_at_all_breaks_the_reading(data: Any) -> None:
    """Any JSON at all on the pipe must be an outcome or a ValueError, and an event or nothing."""
    with pytest.raises(ValueError, match="no outcome"):
        outcome_from(data)
    account = Account()
    if isinstance(data, dict):
        account.take(data)
        for kind in ("stage", "progress", "outcome", "spec", "log"):
            account.take(data | {"event": kind})
            account.take({"event": kind, "engine": data, "stage": data, "outcome": data, "digest": data, "path": data})
            account.take({"event": kind, "engine": "e", "stage": "s", "state": data, "seconds": data, "done": data})
        assert account.outcome is None


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 64))
@settings(deadline=None)
def test_any_bytes_in_any_pieces_give_the_same_events(lines: list[bytes], step: int) -> None:
    """An event that is cut in two by the pipe would be lost, or garbage would swallow the event after it."""
    good = [{"event": "spec", "digest": str(number)} for number in range(len(lines))]
    sent = b"".join(
        line.replace(b"\n", b"") + b"\n" + json.dumps(event).encode() + b"\n"
        for line, event in zip(lines, good, strict=True)
    )
    with pipe() as (reader, write_fd):
        heard = []
        for start in range(0, len(sent), step):
            os.write(write_fd, sent[start : start + step])
            heard += reader.read(0.0)
        assert [event for event in heard if event in good] == good
        assert reader.read(0.0) == reader.drain(0.0) == []
        assert not reader.ended


def test_a_line_without_end_is_dropped(tmp_path: Path) -> None:
    """It would be kept for ever, and grow."""
    with pipe() as (reader, write_fd):
        for second in range(LINE_LIMIT_BYTES // 60000 + 2):
            os.write(write_fd, b"x" * 60000)
            assert reader.read(float(second)) == []
        assert reader.garbage == 1
        os.write(write_fd, b'\n{"event": "spec"}\n')
        assert reader.read(100.0) == [{"event": "spec"}]


@pytest.mark.parametrize("flood", [b"\n", b"{\n", b"x" * 60000, b'{"event": "progress"}\n'], ids=lambda f: str(f[:9]))
def test_a_flood_is_noticed_and_a_long_build_is_none(flood: bytes) -> None:
    """A day of progress at ten events a second would be taken for a flood, or a flood keep the loop busy."""
    line = json.dumps({"event": "progress", "note": "x" * 300}).encode() + b"\n"
    with pipe() as (reader, write_fd):
        for second in range(3000):
            os.write(write_fd, line * 10)
            assert len(reader.read(float(second))) == 10
        assert not vars(reader)["flooded"]
        for _ in range(100):
            os.write(write_fd, flood * (60000 // len(flood)))
            reader.read(5000.0)
            if reader.flooded:
                break
        assert vars(reader)["flooded"]
        assert reader.garbage < 20_000


def test_the_end_of_the_pipe_is_noticed() -> None:
    """The loop would turn for ever on a pipe that is always readable."""
    read_fd, write_fd = os.pipe()
    reader = EventPipe(read_fd, 0.0)
    os.write(write_fd, b'{"event": "spec"}\n{"event": "torn')
    os.close(write_fd)
    assert reader.drain(0.0) == [{"event": "spec"}]
    assert reader.ended
    reader.close()


@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_an_error_becomes_a_failure_that_is_fit_to_show(message: str, hint: str, where: str) -> None:
    """A file's name could clear the dashboard, or a compiler's message fill the state database."""
    failure = as_failure(GateMissed(message * 1000, hint=hint, where=where))
    assert (failure.problem.code, failure.retry) == ("gate", "never")
    assert len(failure.problem.message) <= LONGEST_TEXT
    assert "\x1b" not in failure.problem.message + failure.problem.hint + failure.problem.where
    assert outcome_from(outcome_data(Outcome("", failure=failure))).failure == failure


def test_every_diagnostic_of_a_spec_is_in_the_message() -> None:
    """`trtd status` would say that a spec is at fault, and not where."""
    error: TrtdError = SpecError(
        [Diagnostic("a.toml", 3, "model.path", "missing"), Diagnostic("a.toml", 7, "x", "odd")]
    )
    message = as_failure(error).problem.message
    assert "a.toml:3: model.path: missing" in message
    assert "a.toml:7: x: odd" in message


# ------------------------------------------------------------------------------------------------------------- account


def test_stages_of_one_engine_add_up_and_the_next_begins_anew() -> None:
    """The dashboard would show the stages of one engine as another's."""
    account = Account()

    def stage(engine: str, name: str, state: str, cached: bool = False) -> None:
        event = {"engine": engine, "stage": name, "state": state, "seconds": 1.5, "cached": cached}
        assert account.take({"event": "stage", **event})

    stage("a", "convert", "finished", cached=True)
    stage("a", "build", "started")
    assert account.take(
        {"event": "progress", "engine": "a", "stage": "build", "done": 1, "total": 4, "note": "n\x1b[0m"}
    )
    assert account.stage is not None
    assert (account.stage.done, account.stage.total, account.stage.note) == (1, 4, "n")
    began = account.stage.started_at
    stage("a", "build", "finished")
    assert account.stage.finished == (("convert", 1.5, True), ("build", 1.5, False))
    assert account.stage.started_at == began
    stage("b", "convert", "started")
    now = account.stage
    assert (now.engine, now.done, list(now.finished)) == ("b", 0, [])
    assert account.malformed == 0


def test_the_log_to_show_is_that_of_what_failed() -> None:
    """`trtd logs` would show how well the other engine did."""
    account = Account()
    assert account.log_now() is None
    for name in ("a", "b", "c"):
        account.take({"event": "log", "engine": name, "path": f"/{name}.log"})
        account.take({"event": "stage", "engine": name, "stage": "s", "state": "started"})
        assert account.log_now() == f"/{name}.log"
    assert account.log_after() is None
    failure = Failure(Problem("stage", "m"), "never")
    engines = tuple(EngineOutcome(EngineStatus(name, "int8"), "", True) for name in ("a", "b", "c"))
    account.take({"event": "outcome", "outcome": outcome_data(Outcome("", engines))})
    assert account.log_after() == "/c.log"
    failed = (engines[0], replace(engines[1], failure=failure), engines[2])
    account.take({"event": "outcome", "outcome": outcome_data(Outcome("", failed))})
    assert account.log_after() == "/b.log"


# -------------------------------------------------------------------------------------------------------------- ending


def ending(**changes: Any) -> Ending:
    usual = Ending(
        outcome=None,
        spec_digest="sha256:1",
        exit_status=0,
        stopped="no",
        deadline_s=60.0,
        memory_limit_bytes=None,
        log=Path("/r/builder.log"),
        log_tail="",
        oom_killed=False,
        garbage=0,
        reproduce="python -m trtd.daemon.builder JOB.json",
    )
    return replace(usual, **changes)


ENDS: list[tuple[dict[str, Any], str, str]] = [
    ({"exit_status": 0}, "worker-silent", "told no outcome"),
    ({"exit_status": 1}, "worker-crashed", "exited with status 1"),
    ({"exit_status": 1, "log_tail": "MemoryError"}, "worker-out-of-memory", "MemoryError"),
    ({"exit_status": -signal.SIGKILL}, "worker-crashed", "SIGKILL"),
    ({"exit_status": -signal.SIGKILL, "oom_killed": True}, "worker-out-of-memory", "ran out of memory; log"),
    (
        {"exit_status": -signal.SIGKILL, "oom_killed": True, "memory_limit_bytes": 2**30},
        "worker-out-of-memory",
        "limit 1024 MiB",
    ),
    ({"exit_status": -signal.SIGSEGV, "oom_killed": True}, "worker-crashed", "SIGSEGV"),
    ({"exit_status": -signal.SIGABRT, "log_tail": "std::bad_alloc"}, "worker-out-of-memory", "bad_alloc"),
    ({"exit_status": -signal.SIGTERM}, "worker-crashed", "somebody asked it to stop"),
    ({"exit_status": -63}, "worker-crashed", "signal 63|SIGRTMAX"),
    ({"exit_status": -signal.SIGKILL, "stopped": "deadline"}, "worker-timeout", "deadline of 60 s"),
    ({"exit_status": -signal.SIGTERM, "stopped": "asked"}, "cancelled", "stopped"),
    ({"exit_status": -signal.SIGKILL, "stopped": "flood"}, "worker-crashed", "flooded"),
    ({"exit_status": None, "stopped": "asked"}, "cancelled", "stopped"),
    ({"exit_status": None, "stopped": "flood"}, "worker-crashed", "flooded"),
    ({"exit_status": 0, "garbage": 3}, "worker-silent", "3 lines that are no events"),
]


@pytest.mark.parametrize(("observed", "code", "message"), ENDS)
def test_every_end_has_its_name(observed: dict[str, Any], code: str, message: str) -> None:
    """The wrong name sends people looking in the wrong place, and the daemon trying at the wrong time."""
    outcome = outcome_of(ending(**observed))
    assert outcome.spec_digest == "sha256:1"
    assert outcome.failure is not None
    assert (outcome.failure.problem.code, outcome.failure.retry) == (code, "backoff")
    assert any(words in outcome.failure.problem.message for words in message.split("|"))


@pytest.mark.parametrize("stopped", ["no", "asked", "lingering", "flood", "deadline"])
def test_an_outcome_that_was_told_is_the_outcome(stopped: str) -> None:
    """Engines that are published would be told as failed."""
    engine = EngineOutcome(EngineStatus("a", "int8", 1), "sha256:2", True)
    told = Outcome("sha256:1", (engine,))
    assert outcome_of(ending(outcome=told, stopped=stopped, exit_status=-signal.SIGKILL)) == told


def test_what_the_deadline_cut_off_is_a_timeout_and_the_rest_stands() -> None:
    """A build that always takes too long would be told as cancelled by somebody."""
    done = EngineOutcome(EngineStatus("a", "int8", 1), "sha256:2", True)
    cut = EngineOutcome(EngineStatus("b", "fp16"), "sha256:3", False, CANCELLED)
    outcome = outcome_of(ending(outcome=Outcome("sha256:1", (done, cut)), stopped="deadline"))
    assert outcome.engines[0] == done
    assert outcome.engines[1].failure is not None
    assert outcome.engines[1].failure.problem.code == "worker-timeout"
    whole = outcome_of(ending(outcome=Outcome("", failure=CANCELLED), stopped="deadline")).failure
    assert whole is not None
    assert whole.problem.code == "worker-timeout"
