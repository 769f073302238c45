"""Launching a stage: what the caller gets, and that nothing is left behind. Real processes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trtd.errors import StageError, StorageError, UsageError, WorkerCrashed
from trtd.pipeline.job import Job
from trtd.pipeline.launch import launch
from trtd.pipeline.progress import ProgressEvent

MakeJob = Callable[..., Job]
WaitUntil = Callable[[Callable[[], bool], str], None]
IsGone = Callable[[int], bool]


def test_result_comes_back_with_memory_and_time(make_job: MakeJob, tmp_path: Path) -> None:
    """The stage's dict, its files and its figures would be lost, or a NaN metric would become a number or null."""
    job = make_job("succeed", {"path": "a b", "dims": [1, None]})
    result = launch(job, log=tmp_path / "logs" / "convert.log")
    assert result.value["inputs"] == {"path": "a b", "dims": [1, None]}
    assert result.value["out"] == str(job.out)
    assert result.value["nan"] != result.value["nan"]
    assert (job.out / "model.onnx").read_bytes() == b"stand-in"
    assert 5 << 20 < result.peak_rss_bytes < 200 << 20
    assert result.duration_s >= 0
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["convert.log"]


def test_a_worker_starts_clean(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage would share the terminal's session, read its stdin, dump cores, or import what lies in the cwd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onnx.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    seen = launch(make_job("describe_process", threads=3, memory_limit_bytes=1 << 30), log=tmp_path / "log").value
    assert seen["session"] == seen["pid"] != os.getsid(0)
    assert str(tmp_path) == seen["path"][-1]
    assert seen["omp_threads"] == "3"
    assert (seen["core_limit"], seen["data_limit"], seen["stdin"]) == (0, 1 << 30, "")
    assert seen["heavy"] == []
    assert not Path(seen["temporary_folder"]).exists()


def test_peak_memory_is_not_the_launchers(make_job: MakeJob, tmp_path: Path) -> None:
    """A daemon that once was large would report its own peak for every stage (ru_maxrss survives exec)."""
    ballast = bytearray(os.urandom(1)) * (300 << 20)
    result = launch(make_job("succeed"), log=tmp_path / "log")
    assert len(ballast) == 300 << 20
    assert result.peak_rss_bytes < 200 << 20


def test_progress_comes_in_order_and_to_the_end(make_job: MakeJob, tmp_path: Path) -> None:
    """A bar would jump back, miss its end, or lose the events written just before the worker exits."""
    events: list[ProgressEvent] = []
    launch(make_job("count", {"items": 100_000}), log=tmp_path / "log", on_progress=events.append)
    counting = [event.done for event in events if event.note == "counting"]
    assert events[0] == ProgressEvent("convert", 0, 100_000, "counting")
    assert counting == sorted(set(counting))
    assert counting[-1] == 100_000
    assert len(counting) < 10_000
    assert events[-1] == ProgressEvent("convert", 1, 1, "done")


def test_events_written_before_the_end_are_not_lost(
    make_job: MakeJob, tmp_path: Path, is_gone: IsGone, wait_until: WaitUntil
) -> None:
    """A slow display would miss all that came while it was busy and the worker ended."""
    events: list[ProgressEvent] = []
    pid_file = tmp_path / "pid"

    def dawdle(event: ProgressEvent) -> None:
        events.append(event)
        wait_until(lambda: is_gone(int(pid_file.read_text())), "the worker has ended")

    job = make_job("count", {"items": 1_000_000, "pid_file": str(pid_file)})
    launch(job, log=tmp_path / "log", on_progress=dawdle)
    assert events[-1] == ProgressEvent("convert", 1, 1, "done")


def test_a_closed_pipe_and_garbage_in_it_do_no_harm(make_job: MakeJob, tmp_path: Path) -> None:
    """A stage that closes all descriptors, as daemonizing libraries do, would hang the launcher or fail."""
    events: list[ProgressEvent] = []
    result = launch(make_job("close_pipe"), log=tmp_path / "log", on_progress=events.append)
    assert result.value == {"lived": True}
    assert events == [ProgressEvent("convert", 1, 2, "before")]


def test_much_output_does_not_block(make_job: MakeJob, tmp_path: Path) -> None:
    """Native libraries that print megabytes would fill a pipe and hang, or blow up the message."""
    log = tmp_path / "log"
    with pytest.raises(WorkerCrashed) as caught:
        launch(make_job("spam", {"bytes": 5_000_000, "signal": signal.SIGKILL}), log=log)
    assert log.stat().st_size > 4_900_000
    assert len(str(caught.value)) < 4000
    assert r"\xffspam\xffspam" in str(caught.value)
    assert not any(ord(c) < 32 and c != "\n" for c in str(caught.value))


def test_the_log_is_appended_to_and_only_this_run_is_judged(make_job: MakeJob, tmp_path: Path) -> None:
    """Stages that share a log would erase one another's, or an old 'bad_alloc' would explain a new death."""
    log = tmp_path / "log"
    log.write_text("std::bad_alloc of an earlier stage\n")
    with pytest.raises(WorkerCrashed) as caught:
        launch(make_job("send_signal", {"signal": signal.SIGKILL}), log=log)
    assert "bad_alloc" not in str(caught.value)
    assert log.read_text().startswith("std::bad_alloc")


def test_stray_processes_and_threads_end_with_the_stage(
    make_job: MakeJob, tmp_path: Path, is_gone: IsGone, wait_until: WaitUntil
) -> None:
    """What a stage started would run on, hold memory, and hold the launcher by the inherited pipe."""
    stray = launch(make_job("leave_grandchild"), log=tmp_path / "log").value["pid"]
    wait_until(lambda: is_gone(stray), "the grandchild is gone")
    assert launch(make_job("leave_thread"), log=tmp_path / "log").value == {}


def test_cancel_ends_the_worker(make_job: MakeJob, tmp_path: Path, is_gone: IsGone, wait_until: WaitUntil) -> None:
    """A daemon that shuts down, or whose spec has changed, would wait for the whole build."""
    cancel, pid_file = threading.Event(), tmp_path / "pid"
    job = make_job("hang", {"pid_file": str(pid_file)})
    with pytest.raises(StageError, match="cancelled") as caught:
        launch(job, log=tmp_path / "log", cancel=cancel, on_progress=lambda event: cancel.set())
    assert caught.value.where == "convert"
    wait_until(lambda: is_gone(int(pid_file.read_text())), "the worker is gone")
    assert not (tmp_path / "log.job.json").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_launch_leaves_no_worker(
    interruption: type[BaseException], make_job: MakeJob, tmp_path: Path, is_gone: IsGone
) -> None:
    """A broken display, or Ctrl-C, would leave a worker that goes on for an hour."""
    pid_file = tmp_path / "pid"

    def interrupt(event: ProgressEvent) -> None:
        raise interruption

    with pytest.raises(interruption):
        launch(make_job("hang", {"pid_file": str(pid_file)}), log=tmp_path / "log", on_progress=interrupt)
    assert is_gone(int(pid_file.read_text()))
    assert not (tmp_path / "log.job.json").exists()


def launcher(job: Job, log: Path) -> subprocess.Popen[bytes]:
    """A process of its own that launches ``job``."""
    code = f"""
        from pathlib import Path
        from trtd.pipeline.job import Job
        from trtd.pipeline.launch import launch
        launch(Job.model_validate_json({job.model_dump_json()!r}), log=Path({str(log)!r}))
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE)


def test_ctrl_c_ends_the_worker(make_job: MakeJob, tmp_path: Path, is_gone: IsGone, wait_until: WaitUntil) -> None:
    """SIGINT reaches only the launcher, since the worker has a session of its own."""
    pid_file = tmp_path / "pid"
    with launcher(make_job("hang", {"pid_file": str(pid_file), "deaf": True}), tmp_path / "log") as parent:
        wait_until(pid_file.exists, "the worker has started")
        parent.send_signal(signal.SIGINT)
        _, stderr = parent.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr
    assert is_gone(int(pid_file.read_text()))


def test_kill_9_of_the_launcher_ends_the_worker(
    make_job: MakeJob, tmp_path: Path, is_gone: IsGone, wait_until: WaitUntil
) -> None:
    """An orphan would go on building for a daemon that is dead, and fight with the next one."""
    pid_file = tmp_path / "pid"
    with launcher(make_job("hang", {"pid_file": str(pid_file), "deaf": True}), tmp_path / "log") as parent:
        wait_until(pid_file.exists, "the worker has started")
        worker = int(pid_file.read_text())
        assert not is_gone(worker)
        parent.kill()
    wait_until(lambda: is_gone(worker), "the worker is gone")


def test_launching_from_a_thread_outlives_other_threads(make_job: MakeJob, tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG is tied to the creating thread: the worker would die when launch() waited elsewhere."""
    values: list[object] = []

    def run() -> None:
        values.append(launch(make_job("succeed"), log=tmp_path / "log").value["out"])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert values == [str(tmp_path / "out")]


def test_jobs_that_cannot_start_are_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """A stage would mix its files with others', or a full disk would show as a traceback."""
    job = make_job("succeed")
    with pytest.raises(UsageError, match="not JSON"):
        launch(make_job("succeed", {"array": object()}), log=tmp_path / "log")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        launch(job, log=tmp_path / "file" / "log")
    (job.out / "left over").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        launch(job, log=tmp_path / "log")
    with pytest.raises(UsageError, match="not an empty folder"):
        launch(job.model_copy(update={"out": tmp_path / "nowhere"}), log=tmp_path / "log")


def test_the_kept_job_reads_back(make_job: MakeJob, tmp_path: Path) -> None:
    """The file that a failed stage leaves would not be the job that failed."""
    job = make_job("send_signal", {"signal": signal.SIGSEGV, "path": tmp_path})
    with pytest.raises(WorkerCrashed):
        launch(job, log=tmp_path / "convert.log")
    kept = json.loads((tmp_path / "convert.job.json").read_text())
    assert kept["inputs"] == {"signal": int(signal.SIGSEGV), "path": str(tmp_path)}
    assert Job.model_validate(kept).call == job.call
