"""A disk that refuses any one change: of the state database, the content store and of plain files each is tried."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registry.samples import MEMORY
from tests.store.refusing_disk import Refusal, RefusingDisk, each_error, on_refusing_disk
from tests.store.test_content import put
from tests.store.test_state_crash import generation_in, generation_of, state
from trtd.errors import StorageError
from trtd.store.atomic import write_file
from trtd.store.content import Store
from trtd.store.digest import json_digest
from trtd.store.state import FILE_NAME, StateStore

BIG_BYTES = 20_000


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where that can be: there are thousands of fsyncs in these tests."""
    with tempfile.TemporaryDirectory(prefix="trtd-test-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)


def judge(refusal: Refusal) -> None:
    raised = refusal.raised
    if raised is not None:
        assert isinstance(raised, StorageError), refusal
        assert raised.retry == "backoff"
        assert raised.hint


@each_error
def test_a_write_of_the_state_is_done_or_not(memory: Path, numbers: tuple[int, ...]) -> None:
    """One refused page among hundreds would leave a state that never was, or a daemon that cannot write any more."""
    path, now = memory / FILE_NAME, 1
    refusals = []

    def body(disk: RefusingDisk) -> None:
        nonlocal now
        store = StateStore.open(path)
        store.write(state(now, BIG_BYTES))
        for refusal in disk.every_refusal(numbers, lambda: store.write(state(1 + generation_of(store), BIG_BYTES))):
            judge(refusal)
            refusals.append(refusal.change)
            there = generation_of(store)
            assert there in ((now + 1,) if refusal.raised is None else (now, now + 1)), refusal
            now = there
            assert not store.lost
        store.close()

    on_refusing_disk(body)
    assert any("-wal" in change for change in refusals)
    assert generation_in(path) == now + 1


@each_error
@pytest.mark.parametrize("before", ["nothing", "a state", "damage"])
def test_opening_the_state_is_done_or_told(memory: Path, before: str, numbers: tuple[int, ...]) -> None:
    """A disk that was full at the start would cost all that a daemon knew."""
    path = memory / FILE_NAME
    refusals = []

    def prepare() -> None:
        for file in path.parent.glob(f"{FILE_NAME}*"):
            file.unlink()
        if before == "damage":
            path.write_text("damaged " * 2000)
        elif before == "a state":
            store = StateStore.open(path)
            store.write(state(1, BIG_BYTES))
            store.close()

    def act() -> None:
        store = StateStore.open(path)
        store.write(state(2, BIG_BYTES))
        store.close()

    def body(disk: RefusingDisk) -> None:
        for refusal in disk.every_refusal(numbers, act, prepare):
            judge(refusal)
            refusals.append(refusal.change)
            store = StateStore.open(path)
            if before == "a state":
                assert not store.note, "a sound database was put aside"
            there = generation_of(store)
            assert there in ((2,) if refusal.raised is None else (0, 2) if before != "a state" else (1, 2)), refusal
            store.write(state(3, BIG_BYTES))
            store.close()

    on_refusing_disk(body)
    assert {"write", "pwrite64"} & {change.split()[0] for change in refusals}


DEEDS: dict[str, Callable[[Store, str], object]] = {
    "commit": put,
    "get": lambda store, key: store.get(key, rehash=True),
    "discard": lambda store, key: store.discard(key),
    "expire": lambda store, key: store.expire(-1.0),
}


@each_error
@pytest.mark.parametrize("what", DEEDS)
def test_a_stored_output_is_whole_or_absent(memory: Path, what: str, numbers: tuple[int, ...]) -> None:
    """The next build would take half a model for a finished stage."""
    store, serial, keys = Store(memory), itertools.count(), [""]

    def prepare() -> None:
        keys.append(json_digest(next(serial)))
        if what != "commit":
            put(store, keys[-1])

    def body(disk: RefusingDisk) -> None:
        for refusal in disk.every_refusal(numbers, lambda: DEEDS[what](store, keys[-1]), prepare):
            if not isinstance(refusal.raised, OSError):  # in the stage's own files, which the test writes
                judge(refusal)
            found = store.get(keys[-1], rehash=True)
            if found is not None:
                assert (found / "model.onnx").read_bytes() == b"model"
                assert (found / "inner" / "facts.json").read_bytes() == b"{}"
            else:
                assert refusal.raised is not None or what in ("discard", "expire"), refusal
                assert what != "get", refusal
            put(store, keys[-1])

    on_refusing_disk(body)


@each_error
def test_a_replaced_file_is_the_old_or_the_new_one(memory: Path, numbers: tuple[int, ...]) -> None:
    """A job, a mark or a manifest would be torn by a full disk."""
    file, serial = memory / "file", itertools.count()
    written = [b""]

    def write() -> None:
        written.append(str(next(serial)).encode() * 1000)
        write_file(file, written[-1])

    def body(disk: RefusingDisk) -> None:
        write_file(file, b"")
        before = b""
        for refusal in disk.every_refusal(numbers, write):
            judge(refusal)
            there = file.read_bytes()
            assert there in ((written[-1],) if refusal.raised is None else (before, written[-1])), refusal
            before = there
            assert os.listdir(memory) == ["file"], "a temporary file is left"

    on_refusing_disk(body)
