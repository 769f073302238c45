"""One holder at a time, told by name, and gone with its process."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trtd.errors import RegistryBusy, StorageError
from trtd.store.lock import hold, hold_folder

HOLDER = """
import subprocess, sys
from pathlib import Path
from trtd.store.lock import hold
with hold(Path(sys.argv[1]), "publish digits"):
    if sys.argv[2] == "with-child":
        child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
    else:
        print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path: Path, mode: str = "alone") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real second process that holds the lock; yields it and the line it printed."""
    command = [sys.executable, "-c", HOLDER, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_lock_held_by_another_process_is_busy_and_names_it(tmp_path: Path) -> None:
    """Two writers at once would tear the registry; a refusal without a pid leaves the user guessing."""
    path = tmp_path / "locks" / "lock"
    with holder(path) as (process, _):
        with pytest.raises(RegistryBusy) as caught, hold(path, "roll back digits"):
            pytest.fail("two processes held one lock")
        assert f"process {process.pid} " in caught.value.message
        assert "publish digits" in caught.value.message
        assert "roll back digits" in caught.value.message
        assert caught.value.retry == "wait"
        with pytest.raises(RegistryBusy, match=str(process.pid)), hold(path, "again"):
            pytest.fail("the first refusal must not erase the holder's signature")


def test_kill_9_frees_the_lock(tmp_path: Path) -> None:
    """A stale lock would stop the registry until a person removes a file."""
    path = tmp_path / "lock"
    with holder(path) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
        with hold(path, "go on"):
            pass


def test_a_child_of_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The descriptor must be close-on-exec: an orphaned worker would hold the lock for its lifetime."""
    path = tmp_path / "lock"
    with holder(path, "with-child") as (process, child):
        try:
            process.send_signal(signal.SIGKILL)
            process.wait()
            with hold(path, "go on"):
                assert Path(f"/proc/{child}").exists()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_waiting_gets_the_lock_when_it_is_freed(tmp_path: Path) -> None:
    """A publish that gives up at once throws away a long build because of a short gc."""
    path = tmp_path / "lock"
    with holder(path) as (process, _):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        with hold(path, "go on", wait_s=60):
            pass


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    """Two threads of the daemon must not publish one name at the same time."""
    busy = pytest.raises(RegistryBusy, match=str(os.getpid()))
    with hold(tmp_path / "lock", "one"), busy, hold(tmp_path / "lock", "two"):
        pytest.fail("held twice")
    with hold(tmp_path / "lock", "three"):
        pass


def test_the_signature_of_a_dead_holder_is_not_believed(tmp_path: Path) -> None:
    """A refusal that names a process which died last week sends the user after a ghost."""
    path = tmp_path / "lock"
    path.write_text('{"pid": 999999999, "started": 1, "command": "ghost", "what": "haunt"}')
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(RegistryBusy) as caught, hold(path, "go on"):
            pytest.fail("held twice")
        assert "ghost" not in str(caught.value)
        assert "fuser" in caught.value.hint
    finally:
        os.close(descriptor)


def test_a_symlink_as_lock_file_is_refused(tmp_path: Path) -> None:
    """Signing through a symlink would overwrite whatever it points to."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(StorageError), hold(tmp_path / "lock", "sign"):
        pytest.fail("held a symlink")
    assert victim.read_text() == "precious"


def test_folder_locks_share_and_exclude(tmp_path: Path) -> None:
    """Readers of a store entry must not exclude each other, and must keep gc away."""
    with hold_folder(tmp_path, fcntl.LOCK_SH) as one, hold_folder(tmp_path, fcntl.LOCK_SH) as other:
        assert one
        assert other
        with hold_folder(tmp_path, fcntl.LOCK_EX) as remover:
            assert not remover
    with hold_folder(tmp_path, fcntl.LOCK_EX) as remover:
        assert remover
    with hold_folder(tmp_path / "missing", fcntl.LOCK_EX) as missing:
        assert not missing
