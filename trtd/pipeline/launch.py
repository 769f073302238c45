"""Run a job in a worker process and wait for it.

Trap: the kernel kills the worker when the *thread* that created it ends (``PR_SET_PDEATHSIG``), not only when the
launching process does. :func:`launch` creates the worker in the thread that calls it and waits in that thread, so the
thread outlives the worker. Keep it so.

Not covered: a process that a stage started and that moved to a session of its own, and, if the launcher itself is
killed, any process that the stage started (a service manager's control group ends those). Nothing caps the log's size.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trtd.engines.gpu import DEVICE_ORDER
from trtd.errors import StorageError, UsageError, WorkerCrashed
from trtd.pipeline.job import Job
from trtd.pipeline.log import read_tail
from trtd.pipeline.oom import oom_kills
from trtd.pipeline.outcome import Ending, Result, Stopped, judge
from trtd.pipeline.progress import EventReader, Send

TICK_S = 0.02
GRACE_S = 2.0
REAP_S = 10.0


@dataclass(frozen=True)
class _Files:
    """Where a run keeps its files; ``private`` goes away with it."""

    log: Path
    private: Path

    @property
    def job(self) -> Path:
        return self.log.with_name(self.log.name.removesuffix(".log") + ".job.json")

    @property
    def report(self) -> Path:
        return self.private / "report.json"

    @property
    def scratch(self) -> Path:
        return self.private / "tmp"


def launch(job: Job, *, log: Path, on_progress: Send | None = None, cancel: threading.Event | None = None) -> Result:
    """Run ``job`` in a process of its own and wait for its end.

    Whatever ends this call early, a KeyboardInterrupt or an exception from ``on_progress`` included, kills the
    worker's process group first. What the worker left in ``job.out`` after an error is for the caller to remove.

    Args:
        job: what to run.
        log: file that all output of the worker is appended to; its folder is made. If the stage fails, the job is
            kept beside it as ``NAME.job.json``.
        on_progress: called in this thread with each progress event, in order.
        cancel: set it from another thread to stop the worker.

    Raises:
        UsageError: ``job.out`` is not an empty folder, or the inputs are not JSON data.
        StorageError: the log or the job file cannot be written.
        StageError: ``cancel`` was set.
        TrtdError: whatever :func:`trtd.pipeline.outcome.judge` makes of the worker's end.
    """
    if not job.out.is_dir() or any(job.out.iterdir()):
        raise UsageError(f"{job.out} is not an empty folder for the stage to write into", where=job.stage)
    with ExitStack() as held:
        with _disk_errors(job, log):
            private = held.enter_context(tempfile.TemporaryDirectory(prefix="trtd-", ignore_cleanup_errors=True))
            files = _Files(log.absolute(), Path(private))
            files.scratch.mkdir()
            files.log.parent.mkdir(parents=True, exist_ok=True)
            files.log.touch()
            files.job.write_bytes(_encode(job))
        keep_job = False
        try:
            ending = _supervise(job, files, on_progress, cancel)
            keep_job = ending.stopped != "cancelled"
            result = judge(ending)
            keep_job = False
            return result
        finally:
            if not keep_job:
                files.job.unlink(missing_ok=True)


def _supervise(job: Job, files: _Files, on_progress: Send | None, cancel: threading.Event | None) -> Ending:
    log_start, oom_before = files.log.stat().st_size, oom_kills()
    process, progress_fd = _start(job, files)
    events = EventReader(job.stage, progress_fd, on_progress)
    try:
        try:
            stopped = _watch(process.pid, events, job.deadline_s, cancel)
            if stopped != "no":
                _stop(process.pid)
        finally:
            exit_status = _reap(process)
        events.drain()
    finally:
        events.close()
    return Ending(
        job=job,
        exit_status=exit_status,
        stopped=stopped,
        report=files.report.read_bytes() if files.report.exists() else None,
        log=files.log,
        log_tail=read_tail(files.log, log_start),
        oom_killed=oom_kills() > oom_before,
        reproduce=shlex.join(_worker_command(files.job)),
    )


def _worker_command(job_file: Path) -> list[str]:
    return [sys.executable, "-m", "trtd.pipeline.worker", str(job_file)]


def _start(job: Job, files: _Files) -> tuple[subprocess.Popen[bytes], int]:
    """Start the worker in a session of its own; returns it and the end of the pipe that progress comes out of."""
    read_fd, write_fd = os.pipe()
    wiring = ["--parent", str(os.getpid()), "--progress-fd", str(write_fd), "--report", str(files.report)]
    try:
        with files.log.open("ab") as output:
            process = subprocess.Popen(
                [*_worker_command(files.job), *wiring],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[write_fd],
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(files.scratch), **DEVICE_ORDER},
            )
    except OSError as error:
        os.close(read_fd)
        raise WorkerCrashed(
            f"the worker could not be started: {error}",
            hint="no memory, files or process slots left? see `free -m`, `ulimit -n` and `ulimit -u`",
            where=job.stage,
        ) from error
    finally:
        os.close(write_fd)
    return process, read_fd


def _watch(pid: int, events: EventReader, deadline_s: float, cancel: threading.Event | None) -> Stopped:
    """Pass progress on until the worker ends by itself or there is a reason to stop it."""
    deadline = time.monotonic() + deadline_s
    while not _has_ended(pid):
        if cancel is not None and cancel.is_set():
            return "cancelled"
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return "deadline"
        events.wait(min(TICK_S, left_s))
    return "no"


def _has_ended(pid: int) -> bool:
    """Whether the worker has ended. It is left a zombie, so that its process group's number stays taken."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # the launcher ignores SIGCHLD: the kernel has reaped it
        return True


def _stop(pid: int) -> None:
    """Ask the group to end, which also logs where the stage is, and give it a moment."""
    _signal_group(pid, signal.SIGTERM)
    patience = time.monotonic() + GRACE_S
    while not _has_ended(pid) and time.monotonic() < patience:
        time.sleep(TICK_S)


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Kill all that is left of the worker's process group, then collect the worker's exit status."""
    _signal_group(process.pid, signal.SIGKILL)
    try:
        return process.wait(REAP_S)
    except subprocess.TimeoutExpired:  # stuck in the kernel, e.g. on a dead network disk or in a driver
        return -signal.SIGKILL


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _encode(job: Job) -> bytes:
    try:
        return job.model_dump_json(indent=2).encode()
    except ValueError as error:
        raise UsageError(f"the inputs are not JSON data: {error}", where=job.stage) from error


@contextmanager
def _disk_errors(job: Job, log: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the job could not be written: {error}",
            hint=f"is there space, and may you write, in {log.parent} and {tempfile.gettempdir()}?",
            where=job.stage,
        ) from error
