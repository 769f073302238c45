"""The store gives back exactly what was committed under a key, or nothing."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trtd.store.content
from tests.store.children import run_in_child
from trtd.errors import StageError, StorageError, UsageError
from trtd.store.content import DAY_S, Store
from trtd.store.digest import json_digest
from trtd.store.failpoint import VARIABLE
from trtd.store.lock import hold_folder

KEY = json_digest({"stage": "convert"})
FAILPOINTS = re.findall(r'failpoint\("(.*?)"\)', Path(trtd.store.content.__file__).read_text())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, key: str = KEY, content: bytes = b"model") -> Path:
    """Store two files under ``key``."""
    with store.staging(key) as folder:
        (folder / "inner").mkdir()
        (folder / "model.onnx").write_bytes(content)
        (folder / "inner" / "facts.json").write_bytes(b"{}")
        return store.commit(key, folder)


def test_what_was_committed_is_found_and_nothing_else(store: Store) -> None:
    """A hit under another key would be an engine of another model."""
    assert store.get(KEY) is None
    committed = put(store)
    assert store.get(KEY) == committed
    assert store.get(KEY.removeprefix("sha256:"), rehash=True) == committed
    assert (committed / "model.onnx").read_bytes() == b"model"
    assert store.get(json_digest("other")) is None
    assert os.listdir(store.staging_root) == []


def test_what_was_not_committed_is_gone(store: Store) -> None:
    """A stage that failed half-way must not count as done."""

    def failing_stage() -> None:
        with store.staging(KEY) as folder:
            (folder / "model.onnx").touch()
            raise ValueError("stage failed")

    with pytest.raises(ValueError, match="stage failed"):
        failing_stage()
    assert store.get(KEY) is None
    assert os.listdir(store.staging_root) == []


def test_the_first_commit_of_a_key_wins(store: Store) -> None:
    """Replacing an entry would change files under a reader's hands."""
    with store.staging(KEY) as folder:
        (folder / "model.onnx").write_bytes(b"mine, but later")
        theirs = put(store)
        inode = (theirs / "model.onnx").stat().st_ino
        assert store.commit(KEY, folder) == theirs
    assert (theirs / "model.onnx").stat().st_ino == inode
    assert (theirs / "model.onnx").read_bytes() == b"model"


def test_many_threads_commit_one_key(store: Store) -> None:
    """A race that ends in an error or in a torn entry would fail builds that run side by side."""
    results: list[Path] = []
    threads = [threading.Thread(target=lambda n=n: results.append(put(store, content=bytes([n])))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == len(threads)
    assert store.get(KEY, rehash=True) == results[0]


def _flip(output: Path) -> None:
    (output / "model.onnx").write_bytes(b"Model")


def _link(output: Path) -> None:
    (output / "model.onnx").unlink()
    (output / "model.onnx").symlink_to("/etc/hostname")


TEARS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "file gone": (lambda output: (output / "inner" / "facts.json").unlink(), False),
    "file shorter": (lambda output: os.truncate(output / "model.onnx", 2), False),
    "stray file": (lambda output: (output / "stray").touch(), False),
    "file became a symlink": (_link, False),
    "inventory gone": (lambda output: (output.parent / "inventory.json").unlink(), False),
    "inventory cut": (lambda output: os.truncate(output.parent / "inventory.json", 40), False),
    "inventory empty": (lambda output: os.truncate(output.parent / "inventory.json", 0), False),
    "one bit flipped": (_flip, True),
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_entry_is_a_miss_and_makes_room(store: Store, tear: str) -> None:
    """A torn entry that counts as a hit builds an engine from garbage; one that stays blocks its key for ever."""
    action, needs_rehash = TEARS[tear]
    action(put(store))
    assert (store.get(KEY) is not None) == needs_rehash
    assert store.get(KEY, rehash=True) is None
    assert store.get(KEY) is None
    assert store.get(KEY, rehash=True) is None
    assert (put(store) / "model.onnx").read_bytes() == b"model"
    assert os.listdir(store.staging_root) == []


def test_a_torn_entry_does_not_win_against_a_commit(store: Store) -> None:
    """The commit must replace it without a get() before."""
    output = put(store)
    (output / "model.onnx").unlink()
    assert (put(store) / "model.onnx").read_bytes() == b"model"


def test_an_entry_under_another_key_is_a_miss(store: Store) -> None:
    """A folder renamed by hand must not make a hit."""
    other = json_digest("other")
    entry = put(store).parent
    target = store.folder / other[7:9] / other[7:]
    target.parent.mkdir()
    entry.rename(target)
    assert store.get(other) is None


@pytest.mark.parametrize("kind", ["nothing", "symlink", "pipe"])
def test_only_plain_files_can_be_stored(store: Store, kind: str) -> None:
    """A symlink could leave the store; an empty entry would be a hit that holds nothing."""
    with store.staging(KEY) as folder:
        if kind == "symlink":
            (folder / "model.onnx").symlink_to("/etc/hostname")
        elif kind == "pipe":
            os.mkfifo(folder / "model.onnx")
        with pytest.raises(StageError):
            store.commit(KEY, folder)
    assert store.get(KEY) is None


@pytest.mark.parametrize(
    "key", ["", "sha256:", "../../etc", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "a" * 64 + "\n"]
)
def test_a_key_must_be_a_digest(store: Store, key: str) -> None:
    """A name as key would be a cache hit by name, or a path out of the store."""
    with pytest.raises(UsageError):
        store.get(key)


def test_only_a_staging_folder_can_be_committed(store: Store, tmp_path: Path) -> None:
    """Renaming a user's folder into the store would take it away from the user."""
    (tmp_path / "output").mkdir()
    with pytest.raises(UsageError):
        store.commit(KEY, tmp_path / "output")


@pytest.mark.parametrize("place", FAILPOINTS)
def test_kill_9_at_every_step_leaves_a_miss_or_a_whole_entry(store: Store, place: str) -> None:
    """A half entry after a crash is the one thing the store exists to prevent."""
    assert run_in_child(lambda: put(store), place) == -signal.SIGKILL
    assert (store.get(KEY, rehash=True) is not None) == (place == "store.renamed")
    assert len(store.sweep()) == 1
    assert (put(store) / "model.onnx").read_bytes() == b"model"


@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_full_disk_at_every_step_is_a_storage_error(
    store: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must read as one, leave no litter, and the next try must succeed."""
    monkeypatch.setenv(VARIABLE, f"{place}:error=ENOSPC")
    with pytest.raises(StorageError, match="full"):
        put(store)
    monkeypatch.delenv(VARIABLE)
    assert os.listdir(store.staging_root) == []
    assert (put(store) / "model.onnx").read_bytes() == b"model"


def test_expire_takes_what_nobody_asked_for(store: Store) -> None:
    """gc must take the unused, keep what was used since, and free what it says."""
    used, unused = put(store), put(store, json_digest("unused"))
    for output in (used, unused):
        os.utime(output.parent / "inventory.json", (1, 1))
    assert store.get(KEY) == used
    planned = store.expire(1, dry_run=True)
    assert list(planned) == [json_digest("unused")]
    assert planned[json_digest("unused")] > len(b"model")
    assert store.get(KEY) is not None
    assert store.expire(1) == planned
    assert not unused.exists()
    assert store.get(KEY) is not None
    assert store.expire(1) == {}


def test_expire_counts_days(store: Store) -> None:
    """Days taken for seconds would empty the store."""
    inventory = put(store).parent / "inventory.json"
    now = inventory.stat().st_mtime
    os.utime(inventory, (now, now - 2 * DAY_S))
    assert store.expire(3) == {}
    assert list(store.expire(1)) == [KEY]


def test_expire_leaves_an_entry_that_is_being_read(store: Store) -> None:
    """Between get()'s look and its answer the entry must not go."""
    entry = put(store).parent
    os.utime(entry / "inventory.json", (1, 1))
    with hold_folder(entry, fcntl.LOCK_SH) as held:
        assert held
        assert store.expire(1) == {}
    assert list(store.expire(1)) == [KEY]


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.text("ab.é ", min_size=1, max_size=3).filter(lambda s: s.strip(".")), min_size=1, max_size=3).map(
            "/".join
        ),
        st.binary(max_size=50),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_any_byte_changed_in_any_file_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    """Whatever the stage left, and whichever byte the disk lost."""
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        with store.staging(KEY) as folder:
            written: dict[str, bytes] = {}
            for name, content in files.items():
                if any(name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in written):
                    continue
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
                written[name] = content
            output = store.commit(KEY, folder)
        assert store.get(KEY, rehash=True) == output
        assert {name: (output / name).read_bytes() for name in written} == written
        victim = data.draw(st.sampled_from(sorted(written)))
        changed = bytearray(written[victim] or b"x")
        if written[victim]:
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (output / victim).write_bytes(bytes(changed))
        assert store.get(KEY, rehash=True) is None
