"""Files count only when they are still and nobody writes to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.settle import Settling, is_being_written, is_open_for_writing

STEPS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2)), min_size=1, max_size=30)


@given(STEPS, st.floats(0, 15))
def test_still_means_one_value_for_the_whole_settle_time(steps: list[tuple[float, int]], settle_s: float) -> None:
    """A copy that goes on after a pause would be taken for complete."""
    now, values = 0.0, [(0.0, steps[0][1])]
    settling = Settling(settle_s, steps[0][1], 0.0)
    for passed_s, value in steps[1:]:
        now += passed_s
        values.append((now, value))
        since = now
        for at, earlier in reversed(values):
            if earlier != value:
                break
            since = at
        assert settling.is_still(value, now) == (now >= since + settle_s)


@contextmanager
def process(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process that prints a line when it is ready, and ends when its standard input does."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(30) == 0


def test_a_file_that_another_process_has_open_for_writing_is_being_written(tmp_path: Path) -> None:
    """A copy that pauses for longer than the settle time would be built from half."""
    file = tmp_path / "net.onnx"
    file.write_bytes(b"half")
    assert not is_being_written(str(file))
    code = "import sys; file = open(sys.argv[1], 'ab'); print('ready', flush=True); sys.stdin.read()"
    with process(code, file):
        assert is_being_written(str(file))
    assert not is_being_written(str(file))


def test_a_mapped_file_is_being_written_though_it_is_closed(tmp_path: Path) -> None:
    """Writes through a mapping change no date until they are flushed."""
    file = tmp_path / "data.npy"
    file.write_bytes(b"x" * 4096)
    code = (
        "import mmap, sys; file = open(sys.argv[1], 'r+b'); map = mmap.mmap(file.fileno(), 0); file.close();"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with process(code, file):
        assert is_being_written(str(file))
    assert not is_being_written(str(file))


def test_readers_are_not_writers(tmp_path: Path) -> None:
    """A model that a server has loaded would never count."""
    file = tmp_path / "net.onnx"
    file.write_bytes(b"weights")
    with file.open("rb"):
        assert not is_being_written(str(file))


def test_a_writer_who_comes_while_it_is_asked_does_not_end_the_process(tmp_path: Path) -> None:
    """The kernel tells the holder of a lease by a signal, and the default one would kill the daemon."""
    file = tmp_path / "net.onnx"
    file.touch()
    code = """
import fcntl, os, sys
from trtd.daemon import settle

real = fcntl.fcntl

def stand_in_fcntl(handle, command, argument):
    answer = real(handle, command, argument)
    if (command, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
        try:
            os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
        except BlockingIOError:
            print("ready", flush=True)
    return answer

fcntl.fcntl = stand_in_fcntl
settle.is_being_written(sys.argv[1])
sys.stdin.read()
"""
    with process(code, file):
        pass  # it ends by itself, with status 0


def test_what_cannot_be_asked_is_not_being_written(tmp_path: Path) -> None:
    """A daemon that does not own the data would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert not is_being_written(str(tmp_path / "pipe"))
    assert not is_being_written(str(tmp_path / "nothing"))
    assert not is_being_written(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_of_another_user_is_not_being_written() -> None:
    """Only owners may hold leases: without one, stillness alone decides."""
    code = (
        "import os, sys; from trtd.daemon.settle import is_being_written; os.setuid(65534);"
        "assert not is_being_written(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    )
    with process(code, "/etc/passwd"):
        pass


def test_the_lease_is_given_back(tmp_path: Path) -> None:
    """Somebody who opens the file for writing later would be kept waiting."""
    file = tmp_path / "net.onnx"
    file.touch()
    handle = os.open(file, os.O_RDONLY)
    try:
        assert not is_open_for_writing(handle)
        os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))  # EWOULDBLOCK if the lease were still held
    finally:
        os.close(handle)
