"""Build processes that end in every way: each end is told once, named, and leaves no process."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.nursery import FOLDER, Nursery, nursery, processes_of
from tests.registry.samples import check_whole
from tests.workshop import Workshop
from trtd.daemon import build_process
from trtd.daemon.build_logs import BuilderFiles
from trtd.daemon.orphans import kill_orphans, marked, marker
from trtd.registry.layout import Registry
from trtd.registry.retention import sweep

StandIn = Callable[[str, str], None]
KILLS = 6
STAGES = ("intake", "convert", "calibrate", "reference", "quantize", "verify")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry")
    made.init()
    return made


@pytest.fixture
def strange(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    """Runs stand_in_builder.py; what it does is the name of the spec, which need not exist."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])]))
    with nursery(registry, module="stand_in_builder", grace_s=0.5) as made:
        yield made


@pytest.fixture
def real(shop: Workshop) -> Iterator[Nursery]:
    with nursery(shop.registry) as made:
        yield made


# Name of the behaviour, error code, class of retry, and words of the message.
DEATHS = [
    ("segfault", "worker-crashed", "backoff", r"(?s)died of SIGSEGV \(invalid memory.*\| about to touch address 0"),
    ("killed", "worker-crashed", "backoff", r"died of SIGKILL \(killed from outside"),
    ("bad_alloc", "worker-out-of-memory", "backoff", r"(?s)ran out of memory \(limit 64 MiB\).*std::bad_alloc"),
    ("exit_3", "worker-crashed", "backoff", "exited with status 3"),
    ("silent", "worker-silent", "backoff", "exited with status 0 but told no outcome"),
    ("garbage", "worker-silent", "backoff", "told no outcome; it sent 4 lines that are no events"),
    ("torn_outcome", "worker-silent", "backoff", "told no outcome; it sent 1 lines"),
    ("flood", "worker-crashed", "backoff", "flooded the daemon"),
    ("flood_of_line_ends", "worker-crashed", "backoff", "flooded the daemon"),
    ("flood_without_end_of_line", "worker-crashed", "backoff", "flooded the daemon"),
]


@pytest.mark.parametrize(("behaviour", "code", "retry", "message"), DEATHS, ids=lambda value: str(value)[:20])
def test_every_death_is_told_and_named(strange: Nursery, behaviour: str, code: str, retry: str, message: str) -> None:
    """A subject would be building for ever, or would be tried again at the wrong time and for no known reason."""
    finished = strange.run(Path(f"/specs/{behaviour}.toml"), memory_limit_bytes=1 << 26)
    failure = finished.outcome.failure
    assert failure is not None
    assert finished.outcome.engines == ()
    assert (failure.problem.code, failure.retry) == (code, retry)
    assert re.search(message, failure.problem.message), failure.problem.message
    assert finished.log is not None
    assert finished.log in failure.problem.message
    assert Path(finished.log).is_file()


def test_what_was_read_is_known_of_a_build_that_died(strange: Nursery) -> None:
    """The death of an old spec's build would be held against the new one."""
    assert strange.run(Path("/specs/segfault.toml")).outcome.spec_digest == "sha256:" + "b" * 64
    assert strange.run(Path("/specs/silent.toml")).outcome.spec_digest == ""


@pytest.mark.parametrize("behaviour", ["succeed", "garbage_then_outcome", "outcome_then_segfault", "leave_strays"])
def test_an_outcome_that_was_told_stands(strange: Nursery, registry: Registry, behaviour: str) -> None:
    """What is published would count as failed because of what a library did at exit, or because of a stray process."""
    outcome = strange.run(Path(f"/specs/{behaviour}.toml")).outcome
    assert outcome.failure is None
    assert outcome.spec_digest == "sha256:" + "a" * 64
    assert list(registry.logs.iterdir()) == []


def test_a_build_that_told_its_outcome_and_stays_is_ended(strange: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that a library left would keep the device's slot for ever."""
    monkeypatch.setattr(build_process, "LINGER_S", 0.2)
    assert strange.run(Path("/specs/outcome_then_hang.toml")).outcome.failure is None


@pytest.mark.parametrize("behaviour", ["hang", "deaf"])
def test_a_stop_ends_what_obeys_and_what_does_not(strange: Nursery, behaviour: str) -> None:
    """`trtd cancel` would wait for ever for a process that hangs."""
    start = strange.start(Path(f"/specs/{behaviour}.toml"))
    strange.reaches("convert")
    strange.children.stop(start.key, start.attempt + 1, time.monotonic())  # of another attempt: means nothing
    assert strange.children.running[start.key].attempt == start.attempt
    strange.children.stop(start.key, start.attempt, time.monotonic())
    failure = strange.finish(start).outcome.failure
    assert failure is not None
    assert failure.problem.code == "cancelled"


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # which is the point
def test_a_build_that_nothing_kills_is_given_up(strange: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in the kernel, on a dead disk, would keep its subject from ever being tried again."""
    start = strange.start(Path("/specs/deaf.toml"))
    strange.reaches("convert")
    pid = strange.children.running[start.key].pid
    with monkeypatch.context() as spoilt:
        spoilt.setattr(build_process, "GIVE_UP_S", 0.3)
        spoilt.setattr(os, "killpg", lambda pid, number: None)
        spoilt.setattr(build_process, "of_attempt", lambda marker, attempt: [])
        strange.children.stop(start.key, start.attempt, time.monotonic())
        strange.until(lambda: strange.finished, "it was given up")
    assert strange.children.running == {}
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("behaviour", ["hang", "deaf"])
def test_a_deadline_is_kept(strange: Nursery, behaviour: str) -> None:
    """One build that hangs would keep all others waiting."""
    failure = strange.run(Path(f"/specs/{behaviour}.toml"), deadline_s=1.0).outcome.failure
    assert failure is not None
    assert (failure.problem.code, failure.retry) == ("worker-timeout", "backoff")
    assert "deadline of 1 s" in failure.problem.message


def test_a_build_is_set_apart_and_marked(strange: Nursery, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C would reach builds, they would speak to systemd in the daemon's name, or no restart would find them."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    start = strange.start(Path("/specs/describe.toml"))
    facts = json.loads(strange.finish(start).outcome.spec_digest)
    assert facts["session"] is True
    assert facts["stdin"] == ""
    environment = facts["environment"]
    assert environment["TRTD_DAEMON"] == marker(registry.root)
    assert environment["TRTD_BUILD"] == str(start.attempt)
    assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & environment.keys() == set()


def test_a_build_that_cannot_be_started_is_told(strange: Nursery, registry: Registry) -> None:
    """A full or failing disk would end the daemon, or leave the subject building for ever."""
    BuilderFiles.of(registry, "succeed.toml").job.symlink_to("/dev/full")
    full = strange.run(Path("/specs/succeed.toml")).outcome.failure
    assert full is not None
    assert (full.problem.code, full.retry) == ("storage", "backoff")
    assert "the disk is full" in full.problem.message
    registry.root.rename(registry.root.with_name("moved"))
    gone = strange.run(Path("/specs/succeed.toml")).outcome.failure
    assert gone is not None
    assert (gone.problem.code, gone.retry) == ("storage", "backoff")


def test_a_missing_interpreter_is_told(strange: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of Python under the daemon's feet would end it."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    failure = strange.run(Path("/specs/succeed.toml")).outcome.failure
    assert failure is not None
    assert failure.problem.code == "worker-crashed"
    assert "could not be started" in failure.problem.message


def test_builds_at_the_same_time_are_told_apart(strange: Nursery) -> None:
    """One build's end would be told of another."""
    behaviours = ["succeed", "segfault", "silent", "exit_3", "killed", "leave_strays", "garbage", "bad_alloc"]
    starts = {name: strange.start(Path(f"/specs/{name}.toml")) for name in behaviours}
    assert set(strange.children.running) == {f"{name}.toml" for name in behaviours}
    codes = {}
    for name, start in starts.items():
        failure = strange.finish(start).outcome.failure
        codes[name] = failure.problem.code if failure else "none"
    assert codes == {
        "succeed": "none",
        "segfault": "worker-crashed",
        "silent": "worker-silent",
        "exit_3": "worker-crashed",
        "killed": "worker-crashed",
        "leave_strays": "none",
        "garbage": "worker-silent",
        "bad_alloc": "worker-out-of-memory",
    }
    assert strange.children.running == {}
    assert strange.children.next_due() is None


def test_no_descriptor_is_lost(strange: Nursery) -> None:
    """After some thousand builds the daemon could open nothing any more."""
    strange.run(Path("/specs/succeed.toml"))
    before = os.listdir("/proc/self/fd")
    for behaviour in ("succeed", "segfault", "flood", "leave_strays"):
        strange.run(Path(f"/specs/{behaviour}.toml"))
    assert os.listdir("/proc/self/fd") == before


def test_without_pidfd_ends_are_found_by_looking(strange: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux before 5.3 no build would ever end."""
    monkeypatch.setattr(os, "pidfd_open", _refuse_pidfd)
    failure = strange.run(Path("/specs/exit_3.toml")).outcome.failure
    assert failure is not None
    assert failure.problem.code == "worker-crashed"
    assert strange.run(Path("/specs/leave_strays.toml")).outcome.failure is None


def _refuse_pidfd(pid: int) -> int:
    raise OSError(38, "Function not implemented")


def test_draining_asks_first_and_leaves_nothing(strange: Nursery) -> None:
    """`systemctl stop` would leave processes, or take as long as the longest build."""
    starts = [strange.start(Path(f"/specs/{name}.toml")) for name in ("hang", "deaf", "succeed")]
    strange.until(lambda: len(strange.progress) == 2, "both hang")
    told = [*strange.finished, *strange.children.drain(1.0)]
    assert sorted(f.attempt for f in told) == [start.attempt for start in starts]
    assert strange.children.running == {}
    assert [pid for start in starts for pid in processes_of(start.attempt)] == []


# ------------------------------------------------------------------------------------------------- the real builder


def test_where_a_build_is_can_be_seen(real: Nursery, shop: Workshop) -> None:
    """The dashboard would show nothing for minutes, or the wrong stage, or no log to look into."""
    spec = shop.spec("seen", precision='"int8"', calibration='data = "../images"\nmethod = "minmax"')
    finished = real.run(spec)
    assert finished.outcome.failure is None
    stages = [p.stage for p in real.progress]
    assert {p.key for p in real.progress} == {"seen.toml"}
    assert {stage.engine for stage in stages} == {"seen"}
    order = list(dict.fromkeys(stage.stage for stage in stages))
    assert [stage for stage in STAGES if stage in order] == order
    assert order[-1] == "verify"  # not that it begins with the intake: what comes in one piece is told once
    cached = {name: cached for name, _, cached in stages[-1].finished}
    assert cached == {"convert": True, "calibrate": True, "reference": True, "quantize": False, "verify": False}
    fidelity = [stage for stage in stages if stage.stage == "verify" and stage.note == "fidelity"]
    assert fidelity
    assert all(0 <= stage.done <= (stage.total or 0) for stage in fidelity)
    assert "seen-" in real.progress[-1].log
    assert finished.log == str(shop.registry.record("seen", 1) / "build.log")
    assert Path(finished.log).is_file()
    assert not [file for file in shop.registry.logs.iterdir() if file.name.startswith("builder-")]


def test_a_stopped_build_leaves_nothing_but_its_finished_stages(own: Workshop) -> None:
    """A stage would go on computing for nobody, a half-built engine be published, or minutes of work be lost."""
    spec = own.spec("stopped", precision='"int8"')
    with nursery(own.registry) as made:
        start = made.start(spec)
        made.reaches("calibrate")
        made.children.stop(start.key, start.attempt, time.monotonic())
        (engine,) = made.finish(start).outcome.engines
        assert engine.failure is not None
        assert engine.failure.problem.code == "cancelled"
        assert own.registry.names() == ()
        assert list(own.registry.staging.iterdir()) == []
        assert made.run(spec).outcome.failure is None
        cached = {name for name, _, cached in made.progress[-1].stage.finished if cached}
        assert "convert" in cached
    check_whole(own.registry)


def test_a_deadline_ends_the_stage_as_well(own: Workshop, stand_in: StandIn) -> None:
    """A stage that hangs would go on after its build was given up."""
    stand_in("convert", "stand_in_stages:hang")
    with nursery(own.registry) as made:
        start = made.start(own.spec("late", precision='"fp16"'), deadline_s=3000.0)
        made.reaches("convert")
        assert made.children.poll(time.monotonic() + 3000.0) == []  # by a clock that went faster
        (engine,) = made.finish(start).outcome.engines
    assert engine.failure is not None
    assert (engine.failure.problem.code, engine.failure.retry) == ("worker-timeout", "backoff")
    assert engine.plan_digest.startswith("sha256:")
    assert list(own.registry.staging.iterdir()) == []


def test_kill_9_at_any_moment_costs_nothing_but_the_running_stage(own: Workshop) -> None:
    """A version would be torn, a stage run on, litter stay, or a build never come to its end."""
    spec = own.spec("survivor", precision='["int8", "fp16"]')
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    with nursery(own.registry) as made:
        for _ in range(KILLS):
            start = made.start(spec)
            pid, at_s = made.children.running[start.key].pid, time.monotonic() + moments.uniform(0, 3)
            while start.key in made.children.running and time.monotonic() < at_s:
                made.step(0.02)
            if start.key in made.children.running:
                os.kill(pid, signal.SIGKILL)
            outcome = made.finish(start).outcome
            codes = {outcome.failure.problem.code} if outcome.failure else set()
            assert codes <= {"worker-crashed"}, f"{codes}, seed {seed}"
            check_whole(own.registry)
        outcome = made.run(spec).outcome
        assert outcome.failure is None, f"seed {seed}"
        assert [engine.failure for engine in outcome.engines] == [None, None], f"seed {seed}"
    assert list(own.registry.staging.iterdir()) == []
    assert own.registry.names() == ("survivor-fp16", "survivor-int8")
    check_whole(own.registry)


PARENT = """
import sys, time
from pathlib import Path
from tests.daemon.nursery import Children, Start, BuilderJob, marker
from trtd.registry.layout import Registry
from trtd.registry.retention import sweep
registry, spec = Registry(Path(sys.argv[1])), Path(sys.argv[2])
children = Children(registry, marker(registry.root))
children.start(Start(spec.name, 1, "cpu", ()), BuilderJob(spec, registry.root, roots=(registry.root.parent,)), 0.0)
print(children.running[spec.name].pid, flush=True)
while True:
    time.sleep(0.05)
    for news in children.handle(time.monotonic()):
        print(news.stage.stage, flush=True)
"""


def test_kill_9_of_the_daemon_takes_builds_and_their_stages_along(own: Workshop, stand_in: StandIn) -> None:
    """After a crash two builds of one engine would run, and nobody would hear the first.

    What a stage started in a session of its own is for the next daemon to end.
    """
    stand_in("convert", "stand_in_stages:hang_beside_stray")
    spec = own.spec("orphan", precision='"fp16"')
    command = [sys.executable, "-c", PARENT, str(own.registry.root), str(spec)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            builder = int(parent.stdout.readline())
            while parent.stdout.readline().strip() != "convert":
                assert parent.poll() is None
            wait_until(lambda: len(_marked_by(parent.pid)) == 3, "builder, stage and stray ran")
            assert builder in _marked_by(parent.pid)
        finally:
            parent.kill()
    wait_until(lambda: len(_marked_by(parent.pid)) == 1, "builder and stage died with the daemon")
    (orphan,) = kill_orphans(own.registry.root)
    assert (orphan.command, orphan.daemon_pid) == ("sleep 600", parent.pid)
    assert _marked_by(parent.pid) == []
    sweep(own.registry)
    assert list(own.registry.staging.iterdir()) == []


def test_kill_9_of_a_build_leaves_no_stray_either(own: Workshop, stand_in: StandIn) -> None:
    """A compiler would go on for hours, and take the memory that the next try needs."""
    stand_in("convert", "stand_in_stages:hang_beside_stray")
    with nursery(own.registry) as made:
        start = made.start(own.spec("orphan", precision='"fp16"'))
        made.until(lambda: len(processes_of(start.attempt)) == 3, "builder, stage and stray ran")
        os.kill(made.children.running[start.key].pid, signal.SIGKILL)
        failure = made.finish(start).outcome.failure  # and nothing of it runs
        assert failure is not None
        assert failure.problem.code == "worker-crashed"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_s, f"waited in vain until {what}"
        time.sleep(0.02)


def _marked_by(daemon: int) -> list[int]:
    return [p.pid for p in marked(lambda p: p.owner is not None and p.owner[1] == daemon)]


def test_a_spec_that_is_not_there_is_no_crash_and_may_come_back(real: Nursery, shop: Workshop) -> None:
    """A spec that goes while its build starts would look like a crash; or one that comes back would never be built."""
    failure = real.run(shop.folder / "specs" / "gone.toml").outcome.failure
    assert failure is not None
    assert (failure.problem.code, failure.retry) == ("spec", "backoff")  # the scan tells if it is gone for good
    assert "no such file" in failure.problem.message
