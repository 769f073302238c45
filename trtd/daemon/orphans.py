"""Processes of builds that outlived what started them, found by a mark in their environment.

Build processes and their stages die with their parents; what those start in turn (a converter, a compiler) may not.
Every process of a build inherits two variables: which daemon started it, and for which attempt.

Source: proc_pid_environ(5), the environment as of a process's start. pidfd_open(2): a descriptor means the process that
had the number when it was opened, so that a look and a signal through it cannot hit another one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trtd.store.process import is_alive, start_ticks

MARKER = "TRTD_DAEMON"
ATTEMPT = "TRTD_BUILD"

PATIENCE_S = 10.0
_POLL_S = 0.02
_LOOKS, _LOOK_S = 4, 0.002
_PROC = Path("/proc")


@dataclass(frozen=True)
class Orphan:
    """A process that was killed: its number, its command and the number of the daemon that had started it."""

    pid: int
    command: str
    daemon_pid: int


@dataclass(frozen=True)
class Marked:
    """A process with the marker of its daemon, and the attempt that it belongs to."""

    pid: int
    daemon: bytes
    attempt: bytes

    @property
    def owner(self) -> tuple[bytes, int, int] | None:
        """Registry's root, process number and start time of the daemon; ``None`` if that cannot be read."""
        try:
            root, pid, ticks = self.daemon.rsplit(b"|", 2)
            return root, int(pid), int(ticks)
        except ValueError:
            return None

    def kill(self) -> None:
        """Send SIGKILL, if it is still the same process. It may be on its way out for a while."""
        with _handle(self.pid) as send:
            if _look(self.pid) == self:
                send(signal.SIGKILL)


def marker(root: Path) -> str:
    """What ``TRTD_DAEMON`` is for processes that this process starts for the registry at ``root``."""
    pid = os.getpid()
    return f"{os.path.realpath(root)}|{pid}|{start_ticks(pid) or 0}"


def marked(wanted: Callable[[Marked], bool]) -> list[Marked]:
    """This user's living processes that carry a wanted mark; never this one."""
    found: list[Marked] = []
    pids = list(_own_processes())
    for _ in range(_LOOKS):
        processes = {pid: _look(pid) for pid in pids}
        found += [process for process in processes.values() if process is not None and wanted(process)]
        # In the middle of exec(2) a process has no environment for a moment.
        pids = [pid for pid, process in processes.items() if process is None and _is_bare(pid)]
        if not pids:
            break
        time.sleep(_LOOK_S)
    return found


def of_attempt(daemon: str, attempt: int) -> list[Marked]:
    """The living processes of one attempt of the daemon with this marker."""
    own, number = os.fsencode(daemon), str(attempt).encode()
    return marked(lambda process: process.daemon == own and process.attempt == number)


def kill_orphans(root: Path, patience_s: float = PATIENCE_S) -> tuple[Orphan, ...]:
    """Kill what dead daemons of the registry at ``root`` left running, and wait until it is gone.

    Call it while holding the daemon's lock. This process and those that it descends from are never touched, though a
    daemon that was started by a hook of an earlier one carries that one's mark.

    Args:
        patience_s: how long to wait for processes that do not die at once, stuck in the kernel for instance.

    Returns:
        What was killed.
    """
    own, spared = os.fsencode(os.path.realpath(root)), set(_ancestry())

    def left_behind(process: Marked) -> bool:
        owner = process.owner
        return owner is not None and owner[0] == own and not is_alive(*owner[1:]) and process.pid not in spared

    killed: dict[int, Orphan] = {}
    give_up_s = time.monotonic() + patience_s
    while (found := marked(left_behind)) and time.monotonic() < give_up_s:
        for process in found:
            if process.owner and process.pid not in killed:
                killed[process.pid] = Orphan(process.pid, _command(process.pid), process.owner[1])
            process.kill()
        time.sleep(_POLL_S)
    return tuple(killed.values())


def _own_processes() -> Iterator[int]:
    """Numbers of this user's processes, this one left out."""
    own, user = os.getpid(), os.getuid()
    with suppress(OSError), os.scandir(_PROC) as entries:
        for entry in entries:
            if entry.name.isdigit() and int(entry.name) != own:
                with suppress(OSError):
                    if entry.stat().st_uid == user:
                        yield int(entry.name)


def _look(pid: int) -> Marked | None:
    """The process with its mark; ``None`` if it has none, is a zombie, or is gone."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    if MARKER.encode() not in environment:
        return None
    values = dict(line.split(b"=", 1) for line in environment.split(b"\0") if b"=" in line)
    daemon = values.get(MARKER.encode())
    return None if daemon is None else Marked(pid, daemon, values.get(ATTEMPT.encode(), b""))


def _is_bare(pid: int) -> bool:
    """Whether a process runs a program, as kernel threads and zombies do not, and has no environment."""
    with suppress(OSError):
        os.readlink(_PROC / str(pid) / "exe")
        return not (_PROC / str(pid) / "environ").read_bytes()
    return False


def _command(pid: int) -> str:
    with suppress(OSError):
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode("utf-8", "backslashreplace").strip()[:200]
    return ""


def _ancestry() -> Iterator[int]:
    """This process and those that it descends from."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        try:
            pid = int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return


@contextmanager
def _handle(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    """Sends signals to the process that has this number now, and to no other that may get it later."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield lambda number: None
        return
    except OSError:  # Linux before 5.3, or no descriptors left: then by number

        def by_number(number: signal.Signals) -> None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

        yield by_number
        return

    def by_descriptor(number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(descriptor, number)

    try:
        yield by_descriptor
    finally:
        os.close(descriptor)
