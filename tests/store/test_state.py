"""The state database: what is written comes back, what is damaged is replaced, and readers see only what changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.children import fork, run_in_child
from trtd.errors import RegistryError, StorageError
from trtd.store.state import CHECKPOINT_BYTES, EVENTS_KEPT, FILE_NAME, Changes, StateStore, Stored
from trtd.store.state_file import BROKEN_KEPT, SCHEMA_VERSION
from trtd.store.state_reader import EVENTS_READ, Delta, StateReader

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    opened = StateStore.open(path)
    yield opened
    opened.close()


def subjects(**statuses: str) -> Changes:
    return Changes(subjects={key: (status, f"memory of {key}") for key, status in statuses.items()})


def statuses_in(path: Path) -> dict[str, str | None]:
    store = StateStore.open(path)
    found = {row.key: row.status for row in store.load()}
    store.close()
    return found


# ------------------------------------------------------------------------------------------------------- the writer


def test_what_is_written_comes_back_from_the_next_daemon(path: Path, store: StateStore) -> None:
    """Pauses and failures would be forgotten with every restart."""
    store.write(Changes(subjects={"a": ("status", "memory")}, scans={"a": "scan", "b": "alone"}))
    store.write(Changes(subjects={"a": ("status 2", "memory 2")}, scans={"b": None}))
    store.close()
    again = StateStore.open(path)
    found = sorted(again.load(), key=lambda row: row.key)
    assert found == [Stored("a", "status 2", "memory 2", "scan"), Stored("b", None, None, None)]
    assert again.note == ""
    assert not again.lost
    again.close()


def test_a_subject_that_is_forgotten_takes_everything_with_it(path: Path, store: StateStore) -> None:
    """A new spec under the name of a deleted one would inherit its failures."""
    store.write(Changes(subjects={"a": ("s", "m")}, scans={"a": "scan"}, live={"a": "stage"}))
    store.write(Changes(forget=["a"], subjects={"a": ("new", "new")}))
    assert list(store.load()) == [Stored("a", "new", "new", None)]
    delta = StateReader(path).poll()
    assert delta is not None
    assert delta.live == {}


def test_builds_of_a_dead_daemon_are_not_running(path: Path, store: StateStore) -> None:
    """The dashboard would show for ever what was running when the machine lost power."""
    store.write(Changes(live={"a": "stage"}))
    store.close()
    StateStore.open(path).close()
    delta = StateReader(path).poll()
    assert delta is not None
    assert delta.live == {}


def test_events_are_capped_and_the_oldest_go(path: Path, store: StateStore) -> None:
    """The database would grow for as long as the daemon runs."""
    store.write(Changes(events=[("a", str(number)) for number in range(EVENTS_KEPT)]))
    store.write(Changes(events=[("b", "one more"), ("", "and one")]))
    with sqlite3.connect(path) as connection:
        count, first, last = connection.execute("SELECT count(*), min(id), max(id) FROM events").fetchone()
    connection.close()
    assert (count, first, last) == (EVENTS_KEPT, 3, EVENTS_KEPT + 2)


def test_names_and_texts_of_any_kind(tmp_path: Path) -> None:
    """A registry in a folder with an odd name, or a spec with one, would have no state."""
    folder = tmp_path / os.fsdecode(b"a?mode=memory#%41 \xff\n")
    folder.mkdir()
    store = StateStore.open(folder / FILE_NAME)
    texts = {"'; DROP TABLE subjects; --": ("\0\x1b[2J", "∞\u202e"), "x" * 300: ("", "")}
    store.write(Changes(subjects=texts, events=[("", "\0")]))
    assert {row.key: (row.status, row.memory) for row in store.load()} == texts
    assert sorted(os.listdir(folder))[0] == FILE_NAME
    delta = StateReader(folder / FILE_NAME).poll()
    assert delta is not None
    assert delta.events == ((1, "\0"),)
    store.close()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = st.sampled_from("abc")
WRITES = st.lists(
    st.builds(
        Changes,
        forget=st.sets(KEYS),
        subjects=st.dictionaries(KEYS, st.tuples(TEXTS, TEXTS)),
        scans=st.dictionaries(KEYS, TEXTS | st.none()),
        live=st.dictionaries(KEYS, TEXTS | st.none()),
        events=st.lists(st.tuples(KEYS, TEXTS), max_size=3),
        daemon=TEXTS | st.none(),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(writes=WRITES, looks=st.sets(st.integers(0, 8)))
def test_a_reader_that_looks_now_and_then_ends_up_with_what_was_written(writes: list[Changes], looks: set[int]) -> None:
    """The dashboard would show something else than `trtd status` does."""
    with tempfile.TemporaryDirectory() as folder:
        store, reader = StateStore.open(Path(folder) / FILE_NAME), StateReader(Path(folder) / FILE_NAME)
        expected, live, events, daemon = dict[str, str](), dict[str, str](), list[str](), None
        seen = Seen()
        for number, changes in enumerate(writes):
            if number in looks:
                seen.take(reader.poll())
            store.write(changes)
            for key in changes.forget:
                expected.pop(key, None)
                live.pop(key, None)
            expected |= {key: status for key, (status, _) in changes.subjects.items()}
            live = {k: s for k, s in (live | dict(changes.live)).items() if s is not None}
            events += [text for _, text in changes.events]
            daemon = daemon if changes.daemon is None else changes.daemon
        seen.take(reader.poll())
        assert (seen.subjects, seen.live, seen.events, seen.daemon) == (expected, live, events, daemon)
        assert reader.poll() is None
        reader.close()
        store.close()


class Seen:
    """What a reader knows, put together from what it was told."""

    def __init__(self) -> None:
        self.subjects: dict[str, str] = {}
        self.live: dict[str, str] = {}
        self.events: list[str] = []
        self.daemon: str | None = None

    def take(self, delta: Delta | None) -> None:
        if delta is None:
            return
        if delta.whole:
            self.subjects, self.events = {}, []
        if delta.keys is not None:
            self.subjects = {key: status for key, status in self.subjects.items() if key in delta.keys}
        self.subjects |= delta.subjects
        self.live, self.daemon = delta.live, delta.daemon
        self.events += [text for _, text in delta.events]


def test_ten_thousand_subjects_in_one_transaction(path: Path, store: StateStore) -> None:
    """A cold start over a large registry; far more than it takes, so that only a change in kind is noticed."""
    many = {f"spec-{number}.toml": ("s" * 1500, "m" * 1000) for number in range(10_000)}
    before = time.process_time()
    store.write(Changes(subjects=many, scans=dict.fromkeys(many, "l" * 500)))
    assert len(list(store.load())) == 10_000
    assert time.process_time() - before < 5
    assert os.stat(f"{path}-wal").st_size > CHECKPOINT_BYTES
    store.write(subjects(a="1"))
    store.write(subjects(a="2"))
    assert os.stat(f"{path}-wal").st_size < CHECKPOINT_BYTES, "the log is never folded in, and grows for ever"


# --------------------------------------------------------------------------------------------- files that are not fit


def broken_files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path.parent) if "broken" in name)


def text(path: Path) -> None:
    path.write_text("not a database at all, but of some length " * 100)


def torn(path: Path) -> None:
    store = StateStore.open(path)
    store.write(Changes(subjects={str(number): ("s" * 1000, "m") for number in range(500)}))
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xa5" * 65536 + data[8192 + 65536 :])


def cut(path: Path) -> None:
    torn(path)
    os.truncate(path, 3 * 4096 + 7)


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (name)")
    connection.commit()
    connection.close()


def pragma(path: Path, change: str) -> None:
    StateStore.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (text, "not a database"),
    "torn": (torn, "damaged"),
    "cut": (cut, "malformed|damaged"),
    "foreign": (foreign, "another program's"),
    "newer": (lambda path: pragma(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}"), "its schema is 2"),
    "other tables": (lambda path: pragma(path, "ALTER TABLE meta ADD COLUMN more"), "its tables are not"),
    "marked by another": (lambda path: pragma(path, "PRAGMA application_id = 7"), "another program's"),
    "folder": (Path.mkdir, "not a plain file"),
    "pipe": (os.mkfifo, "not a plain file"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_an_unfit_file_is_put_aside_and_made_anew(path: Path, what: str) -> None:
    """A file that a crash or a stranger spoilt would keep the daemon from starting, for ever."""
    spoil, reason = UNFIT[what]
    spoil(path)
    store = StateStore.open(path)
    assert "put aside as state.db.broken-1" in store.note
    assert any(word in store.note for word in reason.split("|")), store.note
    assert list(store.load()) == []
    store.write(subjects(a="new"))
    store.close()
    assert statuses_in(path) == {"a": "new"}
    assert broken_files(path)[0] == "state.db.broken-1"


def test_what_was_put_aside_can_be_looked_at_and_does_not_pile_up(path: Path) -> None:
    """A failing disk would fill up with broken databases, or take the evidence away at once."""
    for number in range(BROKEN_KEPT + 3):
        path.write_text(f"broken {number} " * 100)
        StateStore.open(path).close()
    numbers = range(4, BROKEN_KEPT + 4)
    assert broken_files(path) == [f"state.db.broken-{number}" for number in numbers]
    assert (path.parent / "state.db.broken-8").read_text().startswith("broken 7")


@pytest.mark.parametrize("size", [0, 1])
def test_a_file_that_a_crash_left_empty_is_simply_filled(path: Path, size: int) -> None:
    """A crash in the first instant would look like damage."""
    path.touch()
    if size:  # pages, but no tables
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    store = StateStore.open(path)
    assert store.note == ""
    store.close()


def test_a_missing_folder_is_told_and_is_not_made(tmp_path: Path) -> None:
    """A daemon whose disk is not mounted would start a new registry in the empty mount point."""
    with pytest.raises(StorageError, match="its folder is missing"):
        StateStore.open(tmp_path / "absent" / FILE_NAME)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------ files that change under a daemon


def remove(path: Path) -> None:
    for companion in ("", "-wal", "-shm"):
        Path(f"{path}{companion}").unlink()


def replace_by_text(path: Path) -> None:
    remove(path)
    text(path)


def replace_by_older(path: Path) -> None:
    remove(path)
    other = StateStore.open(path)
    other.write(subjects(stranger="1"))
    other.close()


@pytest.mark.parametrize("change", [remove, replace_by_text, replace_by_older])
def test_a_database_that_vanishes_comes_back_with_everything(
    path: Path, store: StateStore, change: Callable[[Path], None]
) -> None:
    """`trtd status` would show nothing until the daemon is started again, and pauses would be lost with it."""
    store.write(subjects(a="1", b="2"))
    reader = StateReader(path)
    assert reader.poll() is not None
    change(path)
    store.write(subjects(b="3"))
    assert store.note
    assert not store.lost
    delta = reader.poll()
    assert delta is not None
    assert delta.whole
    assert delta.subjects == {"a": "1", "b": "3"}
    store.close()
    assert statuses_in(path) == {"a": "1", "b": "3"}


def test_a_database_whose_folder_vanishes_comes_back_when_the_folder_does(tmp_path: Path) -> None:
    """A registry that was moved away and back, or mounted again, would need a new daemon."""
    (tmp_path / "r").mkdir()
    store = StateStore.open(tmp_path / "r" / FILE_NAME)
    store.write(subjects(a="1"))
    shutil.rmtree(tmp_path / "r")
    for _ in range(2):
        with pytest.raises(StorageError, match="its folder is missing"):
            store.write(subjects(b="2"))
    assert not (tmp_path / "r").exists()
    (tmp_path / "r").mkdir()
    store.write(subjects(b="2"))
    store.close()
    assert statuses_in(tmp_path / "r" / FILE_NAME) == {"a": "1", "b": "2"}


def overwrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.stat(path).st_size - 4096))


def cut_log(path: Path) -> None:
    os.truncate(f"{path}-wal", 0)


def forget_one_by_one(store: StateStore) -> None:
    for number in range(6000):
        store.write(Changes(forget=[str(number)]))


@pytest.mark.parametrize("spoil", [overwrite, cut_log])
def test_damage_in_the_middle_of_the_work_is_told_and_mended(
    path: Path, store: StateStore, spoil: Callable[[Path], None]
) -> None:
    """The daemon would go on for weeks without being able to write down anything."""
    store.write(Changes(subjects={str(number): ("s" * 1000, "m") for number in range(6000)}))
    store.write(subjects(a="1"))  # the log is folded in now, and begun anew by the next write
    store.write(Changes(subjects={str(number): ("t" * 1000, "m") for number in range(500)}))
    assert run_in_child(lambda: spoil(path)) == 0
    with pytest.raises(StorageError, match=r"damaged|the disk failed"):
        forget_one_by_one(store)
    store.write(subjects(b="2"))
    assert store.lost == ("put aside" in store.note)
    assert store.lost or spoil is cut_log
    keys = {row.key for row in store.load()}
    assert "b" in keys
    assert store.lost == ("5999" not in keys)


def test_another_process_that_keeps_it_locked_is_a_storage_error(path: Path, store: StateStore) -> None:
    """Somebody's open sqlite3 shell would be called a bug of trtd, or make it lose what it had to write."""
    store.write(subjects(a="1"))
    connection = sqlite3.connect(path)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process keeps it locked"):
        store.write(subjects(a="2"))
    connection.rollback()
    connection.close()
    store.write(subjects(a="3"))
    assert next(store.load()).status == "3"


# ------------------------------------------------------------------------------------------------------- the reader


def test_a_reader_is_told_only_what_changed(path: Path, store: StateStore) -> None:
    """A dashboard over 5,000 subjects would take a core to itself."""
    store.write(Changes(subjects={f"{number}": ("status", "m") for number in range(100)}, daemon="d"))
    reader = StateReader(path)
    first = reader.poll()
    assert first is not None
    assert first.whole
    assert len(first.subjects) == 100
    assert reader.poll() is None
    store.write(Changes(subjects={"7": ("other", "m"), "8": ("status", "only its memory")}, scans={"9": "only a scan"}))
    second = reader.poll()
    assert second == Delta(whole=False, subjects={"7": "other"}, daemon="d")
    store.write(Changes(forget=["7"], live={"8": "stage"}, events=[("8", "e")]))
    third = reader.poll()
    assert third is not None
    assert third.keys == frozenset(f"{number}" for number in range(100)) - {"7"}
    assert (third.subjects, third.live, third.events) == ({}, {"8": "stage"}, ((1, "e"),))
    reader.close()


def test_a_reader_gets_the_newest_events_alone(path: Path, store: StateStore) -> None:
    """Opening the dashboard would read all of the past."""
    store.write(Changes(events=[("ab"[number % 2], str(number)) for number in range(EVENTS_READ * 2)]))
    reader = StateReader(path)
    delta = reader.poll()
    assert delta is not None
    assert [event for _, event in delta.events] == [str(number) for number in range(EVENTS_READ, EVENTS_READ * 2)]
    assert [event for _, event in reader.events_of("a", 3)] == ["994", "996", "998"]
    assert reader.events_of("nobody", 3) == []


def test_without_a_daemon_there_is_nothing(path: Path) -> None:
    """The first `trtd status` would end in a traceback."""
    reader = StateReader(path)
    assert reader.poll() == Delta()
    assert reader.poll() is None
    assert reader.events_of("a", 3) == []
    StateStore.open(path).close()
    delta = reader.poll()
    assert delta is not None
    assert delta.whole
    path.unlink()
    assert reader.poll() == Delta()
    path.touch()  # a daemon is about to make its tables
    assert reader.poll() == Delta()


@pytest.mark.parametrize("what", ["text", "torn", "foreign", "newer"])
def test_a_reader_of_an_unfit_file_says_so_and_goes_on_when_it_is_mended(path: Path, what: str) -> None:
    """The dashboard would end, or show an empty registry."""
    UNFIT[what][0](path)
    reader = StateReader(path)
    for _ in range(2):
        with pytest.raises((StorageError, RegistryError)) as caught:
            reader.poll()
        assert "daemon" in caught.value.hint
    store = StateStore.open(path)
    store.write(subjects(a="1"))
    delta = reader.poll()
    assert delta is not None
    assert delta.subjects == {"a": "1"}
    reader.close()
    store.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("alive", [True, False])
def test_somebody_who_may_not_write_can_read(alive: bool) -> None:
    """People on the machine could not ask for the state of a registry that a service runs."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        path = Path(folder) / FILE_NAME
        wait, go = os.pipe()

        def read() -> None:
            os.read(wait, 1)
            os.setuid(NOBODY)
            reader = StateReader(path)
            delta = reader.poll()
            assert delta is not None
            assert delta.subjects == {"a": "1"}
            assert reader.poll() is None
            assert reader.events_of("a", 3) == [(1, "e")]

        child = fork(read)  # before SQLite opens anything here: its locks do not survive a fork
        store = StateStore.open(path)
        store.write(Changes(subjects={"a": ("1", "m")}, events=[("a", "e")]))
        if not alive:
            store.close()
        os.write(go, b"!")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(wait)
        os.close(go)
        if alive:
            store.write(subjects(a="2"))
            store.close()
        assert statuses_in(path) == {"a": "2" if alive else "1"}
