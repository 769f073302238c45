"""Control groups: the arranging against a stand-in of the file system, joining and killing on a real one."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.nursery import FOLDER, nursery
from trtd.daemon import cgroup
from trtd.daemon.cgroup import BuildGroup, Groups, open_groups
from trtd.registry.layout import Registry

CONTROL_FILES = {
    "cgroup.type": "domain\n",
    "cgroup.controllers": "cpu memory pids\n",
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.kill": "",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
}
REAL = Path("/sys/fs/cgroup/unified")


class StandInCgroupfs:
    """A folder that looks like a machine with a delegated group. New groups get their files; nothing is enforced.

    Attributes:
        orders: what was written, and where below the group that the daemon is in.
    """

    def __init__(self, root: Path, path: str = "/system.slice/trtd.service", hybrid: bool = False) -> None:
        self.root = root
        self.orders: list[tuple[str, str]] = []
        self.mount = root / "sys/fs/cgroup" / ("unified" if hybrid else "")
        self.own = self.mount / path.strip("/")
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n0::{path}\n" if hybrid else f"0::{path}\n")
        (root / "proc/self/mountinfo").write_text(
            "21 1 0:20 / /proc rw - proc proc rw\n"
            f"32 23 0:28 / /{self.mount.relative_to(root)} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.base = self.own.parent if self.own.name == "daemon" else self.own
        self.make(self.own)
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")

    def make(self, folder: Path) -> None:
        os.makedirs(folder, exist_ok=True)
        for name, text in CONTROL_FILES.items():
            if not (folder / name).exists():
                (folder / name).write_text(text)

    def open(self) -> tuple[Groups | None, str]:
        return open_groups(self.root)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInCgroupfs:
    made = StandInCgroupfs(tmp_path / "machine")
    behave_like_cgroupfs(made, monkeypatch)
    return made


def behave_like_cgroupfs(made: StandInCgroupfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new folder has its files, and goes with them unless a process is in it. What is written is an order."""
    mkdir, rmdir, write = pathlib.Path.mkdir, pathlib.Path.rmdir, cgroup._write

    def stand_in_write(file: Path, text: str) -> None:
        write(file, text)
        made.orders.append((str(file.relative_to(made.base)), text))

    def stand_in_mkdir(self: Path, *args: Any, **options: Any) -> None:
        mkdir(self, *args, **options)
        if self.is_relative_to(made.mount):
            made.make(self)

    def stand_in_rmdir(self: Path) -> None:
        if not self.is_relative_to(made.mount):
            return rmdir(self)
        if not self.exists():
            raise FileNotFoundError(2, "No such file or directory", str(self))
        if (self / "cgroup.procs").read_text().strip():
            raise OSError(16, "Device or resource busy", str(self))
        return shutil.rmtree(self)

    monkeypatch.setattr(cgroup, "_write", stand_in_write)
    monkeypatch.setattr(pathlib.Path, "mkdir", stand_in_mkdir)
    monkeypatch.setattr(pathlib.Path, "rmdir", stand_in_rmdir)


def test_the_daemon_moves_into_a_leaf_and_limits_come_on(stand_in: StandInCgroupfs) -> None:
    """The kernel refuses controllers beside processes: no build would have a limit."""
    groups, why = stand_in.open()
    assert groups is not None, why
    assert groups.folder == stand_in.own
    assert why == ""
    assert stand_in.orders == [
        ("daemon/cgroup.procs", str(os.getpid())),
        ("cgroup.subtree_control", "+memory"),
        ("cgroup.subtree_control", "+pids"),
    ]


def test_a_build_gets_a_group_with_its_limit(stand_in: StandInCgroupfs) -> None:
    """A build would take all memory, or swap instead of failing."""
    groups, _ = stand_in.open()
    assert groups is not None
    stand_in.orders.clear()
    group = groups.make(7, 2**30)
    assert group is not None
    assert stand_in.orders == [("build-7/memory.max", str(2**30)), ("build-7/memory.swap.max", "0")]
    stand_in.orders.clear()
    assert groups.make(8, None) is not None
    assert stand_in.orders == []
    assert group.oom_kills == 0
    (group.folder / "memory.events").write_text("oom 3\noom_kill 2\n")
    assert group.oom_kills == 2
    assert group.remove()
    assert not group.folder.exists()
    assert group.remove()
    assert group.oom_kills == 0


def test_a_group_that_cannot_be_limited_is_not_used(stand_in: StandInCgroupfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build would run in a group without a limit, and its stages without one of their own."""
    groups, _ = stand_in.open()
    assert groups is not None
    monkeypatch.delitem(CONTROL_FILES, "memory.max")
    assert groups.make(9, 2**30) is None
    assert not (stand_in.own / "build-9").exists()
    assert groups.make(9, None) is not None


def test_left_over_groups_go(stand_in: StandInCgroupfs) -> None:
    """Groups of killed daemons would pile up, and their processes live on."""
    for attempt in (1, 22):
        stand_in.make(stand_in.own / f"build-{attempt}")
    assert stand_in.open()[0] is not None
    assert stand_in.orders[-2:] == [("build-1/cgroup.kill", "1"), ("build-22/cgroup.kill", "1")]
    assert not list(stand_in.own.glob("build-*"))


def test_a_subgroup_made_by_the_service_manager_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DelegateSubgroup=daemon, or after a restart, the daemon would look for builds' groups below itself."""
    made = StandInCgroupfs(tmp_path / "machine", "/system.slice/trtd.service/daemon")
    behave_like_cgroupfs(made, monkeypatch)
    made.make(made.own.parent)
    groups, why = made.open()
    assert groups is not None, why
    assert groups.folder == made.own.parent


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without a namespace of groups the path is the host's: limits would be off for no reason."""
    made = StandInCgroupfs(tmp_path / "machine", "/")
    (made.root / "proc/self/cgroup").write_text("0::/docker/0123456789ab\n")
    behave_like_cgroupfs(made, monkeypatch)
    groups, why = made.open()
    assert groups is not None, why
    assert groups.folder == made.mount


def refuse_memory(made: StandInCgroupfs) -> None:
    (made.own / "cgroup.controllers").write_text("cpu pids\n")


def put_others_in(made: StandInCgroupfs) -> None:
    (made.own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")


def unmount(made: StandInCgroupfs) -> None:
    (made.root / "proc/self/mountinfo").write_text("21 1 0:20 / /proc rw - proc proc rw\n")


def be_in_version_1_only(made: StandInCgroupfs) -> None:
    (made.root / "proc/self/cgroup").write_text("4:memory:/a\n")


def be_in_the_root_group(made: StandInCgroupfs) -> None:
    (made.root / "proc/self/cgroup").write_text("0::/\n")


def have_no_proc(made: StandInCgroupfs) -> None:
    shutil.rmtree(made.root / "proc")


def lose_subtree_control(made: StandInCgroupfs) -> None:
    (made.own / "cgroup.subtree_control").unlink()


def have_a_file_in_the_way(made: StandInCgroupfs) -> None:
    (made.own / "daemon").write_text("")


REFUSALS: list[tuple[Callable[[StandInCgroupfs], None], str]] = [
    (refuse_memory, "no memory controller"),
    (put_others_in, "holds other processes as well: 1"),
    (unmount, "no version 2"),
    (be_in_version_1_only, "in no group of the unified"),
    (be_in_the_root_group, "root control group"),
    (have_no_proc, "no version 2"),
    (lose_subtree_control, "not delegated"),
    (have_a_file_in_the_way, "cannot be arranged"),
]


@pytest.mark.parametrize(("spoil", "why"), REFUSALS, ids=lambda value: getattr(value, "__name__", ""))
def test_where_nothing_is_delegated_the_reason_is_told(
    stand_in: StandInCgroupfs, spoil: Callable[[StandInCgroupfs], None], why: str
) -> None:
    """The daemon would not start, would take others' processes along, or nobody would know why limits differ."""
    spoil(stand_in)
    groups, reason = stand_in.open()
    assert groups is None
    assert why in reason


def test_this_machine_is_answered_for() -> None:
    """Opening must never raise, whatever the machine; run apart, since it may move the process that asks."""
    code = "from trtd.daemon.cgroup import open_groups; groups, why = open_groups(); print(bool(groups) != bool(why))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


# --------------------------------------------------------------------------------------------------- a real hierarchy


@pytest.fixture
def real_group() -> Iterator[BuildGroup]:
    """A group of a real version 2 hierarchy, where this user may make one; its memory controller may be elsewhere."""
    places = [REAL, Path("/sys/fs/cgroup")]
    folder = next((p / f"trtd-test-{os.getpid()}" for p in places if os.access(p / "cgroup.procs", os.W_OK)), None)
    if folder is None:
        pytest.skip("no version 2 hierarchy to write to")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made: {error}")
    group = BuildGroup(folder)
    yield group
    group.kill()
    give_up_s = time.monotonic() + 30
    while not group.remove():
        assert time.monotonic() < give_up_s, "the group stays"
        time.sleep(0.02)


def test_all_of_a_build_is_in_its_group_and_dies_with_it(real_group: BuildGroup) -> None:
    """What a stage started in a session of its own would outlive the build."""
    script = f"echo 0 > {real_group.folder}/cgroup.procs; setsid sleep 600 & setsid setsid sleep 600 & sleep 600"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as shell:
        give_up_s = time.monotonic() + 30
        while len(real_group.processes) < 4:
            assert time.monotonic() < give_up_s, real_group.processes
            time.sleep(0.02)
        assert shell.pid in real_group.processes
        assert not real_group.remove()
        real_group.kill()
        assert shell.wait() == -signal.SIGKILL
    while real_group.processes:
        assert time.monotonic() < give_up_s, real_group.processes
        time.sleep(0.02)


def test_a_real_build_process_joins_its_group(real_group: BuildGroup, tmp_path: Path) -> None:
    """The limit would be kept on an empty group, and the stages have none of their own."""
    registry = Registry(tmp_path / "registry")
    registry.init()
    spec = registry.specs / "joined.toml"
    os.mkfifo(tmp_path / "fifo")
    spec.symlink_to(tmp_path / "fifo")
    groups = Groups(real_group.folder)
    with nursery(registry, groups) as made:
        start = made.start(spec)
        finished = made.finish(start)
    assert finished.outcome.failure is not None
    assert finished.outcome.failure.problem.code == "spec"
    assert finished.log is None, Path(finished.log).read_text()
    assert not (real_group.folder / f"build-{start.attempt}").exists()


def test_strays_in_a_group_are_ended_with_their_build(
    real_group: BuildGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dropped its environment would be found by nobody."""
    registry = Registry(tmp_path / "registry")
    registry.init()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])]))
    with nursery(registry, Groups(real_group.folder), module="stand_in_builder") as made:
        start = made.start(Path("/specs/leave_unmarked_strays.toml"))
        assert made.finish(start).outcome.failure is None
    assert not (real_group.folder / f"build-{start.attempt}").exists()


DAEMON = """
import os, sys, time
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
from tests.daemon.nursery import nursery
from trtd.daemon.cgroup import open_groups
from trtd.registry.layout import Registry
registry = Registry(Path(sys.argv[2]))
registry.init()
groups, why = open_groups()
assert groups is not None, why
with nursery(registry, groups, module="stand_in_builder") as made:
    for name in ("take_memory", "let_a_stage_take_memory", "take_little_memory"):
        outcome = made.run(Path(f"/specs/{name}.toml"), memory_limit_bytes=1 << 28).outcome
        print(name, outcome.failure.problem.code if outcome.failure else outcome.spec_digest, flush=True)
print(open_groups()[0] == groups, sorted(f.name for f in groups.folder.iterdir() if f.is_dir()))
"""


def test_a_build_that_takes_too_much_is_ended_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One build would take the whole machine down, or be told as killed by somebody."""
    group = _limitable_group()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), str(FOLDER.parents[1]), *sys.path]))
    try:
        command = [sys.executable, "-c", DAEMON, str(group.folder), str(tmp_path / "registry")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.splitlines() == [
            "take_memory worker-out-of-memory",
            "let_a_stage_take_memory killed by SIGKILL, of 1",
            "take_little_memory survived, of 0",
            "True ['daemon']",
        ], done.stderr
    finally:
        BuildGroup(group.folder / "daemon").remove()
        group.remove()


def _limitable_group() -> BuildGroup:
    """A new group whose memory can be limited, where this user may make one."""
    folder = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().strip("/")
    for parent in (folder, folder.parent):
        made = parent / f"trtd-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / "memory.max").exists():
            return BuildGroup(made)
        made.rmdir()
    pytest.skip("no group can be made here whose memory can be limited")
