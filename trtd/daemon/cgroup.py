"""Control groups: a limit on the memory of a whole build, and a way to end all of it at once.

Works where a part of the unified hierarchy (cgroup v2) was delegated to the daemon, as systemd does with
``Delegate=memory pids``. The daemon moves into a leaf of its own, since the kernel allows no processes beside groups
with controllers, and each build gets a leaf beside it::

    <delegated group>/daemon/           the daemon
    <delegated group>/build-<attempt>/  memory.max = the build's limit

Source: Linux ``Documentation/admin-guide/cgroup-v2.rst``; systemd's ``CGROUP_DELEGATION.md``.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DAEMON = "daemon"
_BUILD = "build-"
_PROCS = "cgroup.procs"


class NotDelegated(Exception):
    """Why control groups cannot be used, in words for ``trtd status``."""


@dataclass(frozen=True)
class BuildGroup:
    """The control group of one build."""

    folder: Path

    @property
    def oom_kills(self) -> int:
        """Processes of the group that were killed for lack of memory."""
        with suppress(OSError, ValueError):
            for line in (self.folder / "memory.events").read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes in it."""
        with suppress(OSError, ValueError):
            return [int(line) for line in (self.folder / _PROCS).read_text().split()]
        return []

    def kill(self) -> None:
        """Send SIGKILL to every process in it."""
        try:
            _write(self.folder / "cgroup.kill", "1")
        except OSError:  # Linux before 5.14
            for pid in self.processes:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Whether it is gone; a group with processes in it stays."""
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Groups:
    """The delegated part of the tree."""

    folder: Path

    def make(self, attempt: int, memory_limit_bytes: int | None) -> BuildGroup | None:
        """A group for one build; ``None`` if it cannot be made or limited."""
        group = BuildGroup(self.folder / f"{_BUILD}{attempt}")
        try:
            group.folder.mkdir(exist_ok=True)
            if memory_limit_bytes is not None:
                _write(group.folder / "memory.max", str(memory_limit_bytes))
                with suppress(OSError):  # a kernel that does not count swap
                    _write(group.folder / "memory.swap.max", "0")
        except OSError:
            group.remove()
            return None
        return group

    def left_over(self) -> list[BuildGroup]:
        """Groups of builds that an earlier daemon has left."""
        with suppress(OSError):
            return [BuildGroup(f) for f in sorted(self.folder.glob(f"{_BUILD}*")) if f.is_dir()]
        return []


def open_groups(root: Path = Path("/")) -> tuple[Groups | None, str]:
    """Take charge of the delegated part of the tree, and move this process into its leaf.

    Left-over groups of an earlier daemon are killed and removed.

    Args:
        root: where ``proc`` and the mounts lie; for tests.

    Returns:
        The groups, or ``None`` and why there are none.
    """
    try:
        groups = Groups(_delegated(root))
        _take_charge(groups.folder)
    except NotDelegated as why:
        return None, str(why)
    for group in groups.left_over():
        group.kill()
        group.remove()
    return groups, ""


def _delegated(root: Path) -> Path:
    """The group that this process was put into, if what is below it is ours to arrange."""
    own = _own_group(root)
    if own.name == _DAEMON and os.access(own.parent / _PROCS, os.W_OK):  # DelegateSubgroup=daemon, or we were here
        return own.parent
    return own


def _own_group(root: Path) -> Path:
    mount = _mount(root)
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise NotDelegated(f"/proc/self/cgroup cannot be read: {error.strerror}") from None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None:
        raise NotDelegated("this process is in no group of the unified hierarchy")
    # Inside a container the path may be the host's while the mount shows the container's own group as its root.
    for folder in (mount / path.strip("/"), mount):
        if (folder / "cgroup.type").exists():  # the root of all groups has no type, and cannot be limited
            return folder
    raise NotDelegated("this process is in the root control group")


def _mount(root: Path) -> Path:
    """Where the unified hierarchy is mounted. Source: proc_pid_mountinfo(5)."""
    with suppress(OSError):
        for line in (root / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            place, _, kind = line.partition(" - ")
            if kind.split(" ")[0] == "cgroup2":
                return root / place.split(" ")[4].lstrip("/")
    raise NotDelegated("there are no version 2 control groups on this machine")


def _take_charge(folder: Path) -> None:
    try:
        controllers = (folder / "cgroup.controllers").read_text().split()
    except OSError as error:
        raise NotDelegated(f"{folder} cannot be read: {error.strerror}") from None
    if "memory" not in controllers:
        raise NotDelegated(f"{folder} has no memory controller: set Delegate=memory pids in the unit")
    if not all(os.access(folder / file, os.W_OK) for file in (".", _PROCS, "cgroup.subtree_control")):
        raise NotDelegated(f"{folder} was not delegated to this user: set Delegate=memory pids in the unit")
    others = set(BuildGroup(folder).processes) - {os.getpid()}
    if others:
        raise NotDelegated(f"{folder} holds other processes as well: {_listed(others)}")
    try:
        leaf = folder / _DAEMON
        leaf.mkdir(exist_ok=True)
        _write(leaf / _PROCS, str(os.getpid()))
        _write(folder / "cgroup.subtree_control", "+memory")
    except OSError as error:
        raise NotDelegated(f"{folder} cannot be arranged: {error.strerror}") from None
    if "pids" in controllers:
        with suppress(OSError):
            _write(folder / "cgroup.subtree_control", "+pids")


def _listed(pids: set[int]) -> str:
    return ", ".join(str(pid) for pid in sorted(pids)[:5]) + (", …" if len(pids) > 5 else "")


def _write(file: Path, text: str) -> None:
    """One write, no newline and nothing cut off: every write to such a file is an order."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
