"""kill -9 and a refusing disk at every step of the state database."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.children import run_in_child
from trtd.errors import StorageError
from trtd.store.failpoint import VARIABLE
from trtd.store.state import CHECKPOINT_BYTES, FILE_NAME, Changes, StateStore
from trtd.store.state_reader import StateReader

SOURCE = Path(__file__).parents[2] / "trtd" / "store"
STEPS = [
    step
    for module in ("state_file.py", "state.py")
    for step in re.findall(r'failpoint\("(.*?)"\)', (SOURCE / module).read_text())
]
OPENING = ("state.open", "state.created", "state.prepared")
COMMITTED = ("state.committed", "state.checkpoint", "state.checkpointed", "state.closing")
REFUSALS = ["ENOSPC", "EIO", "EROFS", "EACCES"]
BIG_BYTES = CHECKPOINT_BYTES + 4096  # of one text: makes every write fold the log in
KILLS = 30

# A process of its own, not a fork: SQLite's locks do not survive that while this process reads.
WRITER = """
import sys
from pathlib import Path
from tests.store.test_state_crash import generation_of, state
from trtd.store.state import StateStore

store = StateStore.open(Path(sys.argv[1]))
generation = generation_of(store)
print("ready", flush=True)
while True:
    generation += 1
    store.write(state(generation, big_bytes=200_000))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def state(generation: int, big_bytes: int = BIG_BYTES) -> Changes:
    """Everything that belongs to one generation; torn if parts of two are there."""
    text = str(generation)
    big = text[-1] * big_bytes
    return Changes(
        forget=[f"only-{generation - 1}"],
        subjects={"a": (text, big), "b": (text, text), f"only-{generation}": (text, text)},
        scans={"a": text},
        live={"b": text},
        events=[("a", text)],
        daemon=text,
    )


def generation_in(path: Path) -> int:
    """Which generation is there, read as a new daemon reads it, once it is certain that all of it is; 0: none."""
    store = StateStore.open(path)
    assert store.note == "", "a crash must never look like damage"
    rows = {row.key: (row.status, row.scan) for row in store.load()}
    store.close()
    delta = StateReader(path).poll()
    assert delta is not None
    if not rows:
        assert (delta.subjects, delta.events, delta.daemon) == ({}, (), None)
        return 0
    text = str(delta.daemon)
    assert rows == {"a": (text, text), "b": (text, None), f"only-{text}": (text, None)}
    assert delta.events[-1] == (int(text), text)
    return int(text)


def generation_of(store: StateStore) -> int:
    return max((int(row.status or 0) for row in store.load()), default=0)


def write(path: Path, generation: int) -> None:
    store = StateStore.open(path)
    store.write(state(generation))
    store.close()


def test_the_steps_are_all_there() -> None:
    """The tests below are only as good as this list."""
    assert {*OPENING, *COMMITTED, "state.begin", "state.written", "state.before-commit"} < set(STEPS)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [0, 2])
def test_kill_9_leaves_the_old_state_or_the_new_one(path: Path, step: str, before: int) -> None:
    """The next daemon would start from a state that never was."""
    for generation in range(1, before + 1):
        write(path, generation)
    code = run_in_child(lambda: write(path, before + 1), step)
    reached = step != "state.moving-aside"
    assert code == (-signal.SIGKILL if reached else 0)
    expected = before + 1 if step in COMMITTED or not reached else before
    assert generation_in(path) == expected
    write(path, expected + 1)
    assert generation_in(path) == expected + 1


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("step", STEPS)
def test_a_refusing_disk_leaves_the_old_state_and_the_next_write_succeeds(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, refusal: str
) -> None:
    """A disk that was full for a minute would cost the daemon its memory, or bring it down."""
    write(path, 1)
    store = StateStore.open(path)
    monkeypatch.setenv(VARIABLE, f"{step}:error={refusal}")
    succeeds = step in COMMITTED or step in OPENING or step == "state.moving-aside"
    if succeeds:
        store.write(state(2))
    else:
        with pytest.raises(StorageError) as caught:
            store.write(state(2))
        assert caught.value.retry == "backoff"
        assert caught.value.hint
    reader = StateReader(path)
    delta = reader.poll()
    assert delta is not None
    assert delta.daemon == ("2" if succeeds else "1")
    monkeypatch.delenv(VARIABLE)
    store.write(state(2 + succeeds))
    assert not store.lost
    store.close()
    assert generation_in(path) == 2 + succeeds


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("step", OPENING)
def test_a_refusing_disk_at_the_start_is_told_and_nothing_is_put_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, refusal: str
) -> None:
    """A sound database would be thrown away because the disk was full."""
    write(path, 1)
    monkeypatch.setenv(VARIABLE, f"{step}:error={refusal}")
    with pytest.raises(StorageError):
        StateStore.open(path)
    monkeypatch.delenv(VARIABLE)
    assert os.listdir(path.parent) == [FILE_NAME]
    assert generation_in(path) == 1


@pytest.mark.parametrize("step", ["state.moving-aside", *OPENING])
def test_kill_9_while_a_damaged_file_is_put_aside(path: Path, step: str) -> None:
    """A crash at that moment would bring the damage back, or mix the old log into the new database."""
    write(path, 1)
    store = StateStore.open(path)
    store.write(Changes(subjects={"old": ("old", "old")}))
    path.with_name("kept-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    store.close()
    os.rename(path.with_name("kept-wal"), f"{path}-wal")  # as a crash leaves it
    path.write_text("damaged " * 2000)
    assert run_in_child(lambda: StateStore.open(path), step) == -signal.SIGKILL
    store = StateStore.open(path)
    assert list(store.load()) == []
    store.close()
    assert generation_in(path) == 0
    write(path, 1)
    assert generation_in(path) == 1


def test_a_disk_that_really_refuses(path: Path) -> None:
    """What SQLite makes of a write that fails would reach the daemon in a form that it does not know."""

    def fill() -> None:
        store = StateStore.open(path)
        store.write(state(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        for _ in range(2):
            with pytest.raises(StorageError, match="could not write the state database") as caught:
                store.write(state(2))
            assert caught.value.retry == "backoff"
            assert generation_of(store) == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.write(state(2))
        assert not store.lost

    assert run_in_child(fill) == 0
    assert generation_in(path) == 2


def test_random_kills_under_a_reader_never_show_a_torn_state(path: Path) -> None:
    """kill -9 comes between any two instructions, not only where a failpoint stands; and people look all the while."""
    chance = random.Random(7)
    reader = StateReader(path)
    shown = last = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path], cwd=SOURCE.parents[1], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            stop_s = time.monotonic() + chance.uniform(0.005, 0.1)
            while time.monotonic() < stop_s:
                shown += look(reader)
            writer.kill()
        generation = generation_in(path)
        assert generation >= last, "what was committed is gone"
        last = generation
    assert last > KILLS
    assert shown > KILLS


def look(reader: StateReader) -> int:
    """How many new states the reader was shown, each of them whole."""
    delta = reader.poll()
    if delta is None or delta.daemon is None:
        return 0
    assert set(delta.subjects.values()) <= {delta.daemon}
    assert set(delta.live.values()) <= {delta.daemon}
    if delta.keys is not None:
        assert delta.keys == {"a", "b", f"only-{delta.daemon}"}
    return 1
