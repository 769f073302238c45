"""Processes that outlived their daemon are found and killed, and nobody else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trtd.daemon.orphans import ATTEMPT, MARKER, Marked, kill_orphans, marked, marker, of_attempt
from trtd.store.process import start_ticks

Spawn = Callable[..., int]
NOBODY = 65534


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts a process that sleeps, with this mark and in a session of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        mark: str | bytes, attempt: int = 1, command: tuple[str, ...] = ("sleep", "600"), **options: object
    ) -> int:
        environment = {**os.environb, MARKER.encode(): os.fsencode(mark), ATTEMPT.encode(): b"%d" % attempt}
        process = subprocess.Popen(command, env=environment, start_new_session=True, **options)  # type: ignore[call-overload]
        started.append(process)
        while not Path(f"/proc/{process.pid}/environ").read_bytes():  # for a moment after exec there is none yet
            time.sleep(0.001)
        return int(process.pid)

    yield start
    for process in started:
        process.kill()
        process.wait()


def dead_marker(root: Path) -> str:
    """The marker of a daemon that is no more."""
    with subprocess.Popen(["sleep", "600"]) as gone:
        ticks = start_ticks(gone.pid)
        gone.kill()
    return f"{os.path.realpath(root)}|{gone.pid}|{ticks}"


def runs(pid: int) -> bool:
    return start_ticks(pid) is not None


def test_what_a_dead_daemon_left_is_killed_and_told(tmp_path: Path, spawn: Spawn) -> None:
    """Two builds of one engine would run side by side after a crash, and nobody would hear the first."""
    mark = dead_marker(tmp_path)
    pids = {spawn(mark), spawn(mark, 2)}
    killed = kill_orphans(tmp_path)
    assert {orphan.pid for orphan in killed} == pids
    assert {orphan.command for orphan in killed} == {"sleep 600"}
    assert {orphan.daemon_pid for orphan in killed} == {int(mark.split("|")[1])}
    assert not any(map(runs, pids))
    assert kill_orphans(tmp_path) == ()


def test_a_number_that_was_given_out_again_is_no_living_daemon(tmp_path: Path, spawn: Spawn) -> None:
    """Builds of a daemon whose number some other process has now would never be ended."""
    pid = spawn(f"{tmp_path}|{os.getpid()}|{(start_ticks(os.getpid()) or 0) + 1}")
    assert [orphan.pid for orphan in kill_orphans(tmp_path)] == [pid]


def test_others_are_left_alone(tmp_path: Path, spawn: Spawn) -> None:
    """Starting a daemon would kill builds of another registry, of a living daemon, or somebody's shell."""
    (tmp_path / "registry").mkdir()
    root, dead = tmp_path / "registry", dead_marker(tmp_path / "registry")
    (tmp_path / "other").mkdir()
    spared = [
        spawn(marker(root)),
        spawn(dead_marker(tmp_path / "other")),
        spawn(dead_marker(tmp_path)),
        spawn(f"{root}/|{dead.split('|', 1)[1]}"),
        spawn("nonsense"),
        spawn(""),
        spawn(f"{root}|x|y"),
        spawn(f"{root}|1"),
        spawn(b"\xff\xfe|1|1"),
    ]
    assert kill_orphans(root) == ()
    assert all(map(runs, spared))


@pytest.mark.parametrize("name", ["a|b", "new\nline", "sp ace", "\udcff"])
def test_a_root_of_any_name_is_recognized(tmp_path: Path, spawn: Spawn, name: str) -> None:
    """Orphans of a registry with an odd name would live for ever."""
    root = tmp_path / name
    root.mkdir()
    pid = spawn(dead_marker(root))
    assert [orphan.pid for orphan in kill_orphans(root)] == [pid]


def test_a_root_is_the_same_by_any_path(tmp_path: Path, spawn: Spawn) -> None:
    """A daemon started through a link, or from another folder, would not know the orphans of the one before."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spawn(dead_marker(tmp_path / "link"))
    assert len(kill_orphans(tmp_path / "real" / ".." / "link")) == 1


def test_a_descendant_of_an_orphan_spares_itself_and_its_forebears(tmp_path: Path, spawn: Spawn) -> None:
    """A daemon that was started by a hook of the one before would kill itself, or the shell that it runs in."""
    mark, out = dead_marker(tmp_path), tmp_path / "out"
    sibling = spawn(mark)
    code = f"""
import sys
from pathlib import Path
from trtd.daemon.orphans import kill_orphans
Path({str(out)!r}).write_text(" ".join(str(o.pid) for o in kill_orphans(Path({str(tmp_path)!r}))))
"""
    daemon = ("sh", "-c", 'true; "$0" -c "$1"; exit 7', sys.executable, code)
    shell = spawn(mark, command=daemon)
    assert os.waitstatus_to_exitcode(os.waitpid(shell, 0)[1]) == 7
    assert out.read_text() == str(sibling)


def test_what_an_orphan_starts_while_it_is_hunted_is_found_too(tmp_path: Path, spawn: Spawn) -> None:
    """A compiler driver that starts one step after another would get away."""
    spawn(dead_marker(tmp_path), command=("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do setsid sleep 600 & done; wait"))
    time.sleep(0.02)
    assert kill_orphans(tmp_path)
    root = os.fsencode(os.path.realpath(tmp_path))
    assert marked(lambda process: process.owner is not None and process.owner[0] == root) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes of others")
def test_processes_of_other_users_are_left_alone(tmp_path: Path, spawn: Spawn) -> None:
    """Anybody could have a daemon that runs as root kill by an environment variable."""
    mark = dead_marker(tmp_path)
    pid = spawn(mark, user=NOBODY)
    assert kill_orphans(tmp_path) == ()
    assert runs(pid)


def test_processes_of_one_attempt_are_told_from_those_of_another(tmp_path: Path, spawn: Spawn) -> None:
    """Stopping one build would kill another one's stage."""
    mine, other = spawn(marker(tmp_path), 7), spawn(marker(tmp_path), 77)
    assert [process.pid for process in of_attempt(marker(tmp_path), 7)] == [mine]
    for process in of_attempt(marker(tmp_path), 7):
        process.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(mine, 0)[1]) == -signal.SIGKILL
    assert runs(other)


@pytest.mark.parametrize("by_number", [False, True])
def test_another_process_of_the_same_number_is_not_hit(
    tmp_path: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, by_number: bool
) -> None:
    """Between a look and a signal a number may become another process's."""
    if by_number:
        monkeypatch.setattr(os, "pidfd_open", _refuse_pidfd)
    pid = spawn(marker(tmp_path), 8)
    Marked(pid, os.fsencode(marker(tmp_path)), b"9").kill()
    assert runs(pid)
    Marked(2**22 + 1, b"", b"").kill()  # nobody's number
    for process in of_attempt(marker(tmp_path), 8):
        process.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def _refuse_pidfd(pid: int) -> int:
    raise OSError(38, "Function not implemented")
