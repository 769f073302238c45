"""One build process as the daemon sees it: started, listened to, ended, and judged."""

from __future__ import annotations

import os
import shlex
import signal
from contextlib import suppress

from trtd.daemon.account import Account
from trtd.daemon.build_logs import BuilderFiles
from trtd.daemon.cgroup import BuildGroup
from trtd.daemon.ending import Ending, Stopped, outcome_of
from trtd.daemon.event_pipe import EventPipe
from trtd.daemon.launching import Launch
from trtd.daemon.messages import Finished, Start
from trtd.daemon.orphans import of_attempt
from trtd.daemon.wire import BuilderJob
from trtd.pipeline.log import read_tail
from trtd.pipeline.oom import oom_kills
from trtd.status import StageStatus

GRACE_S = 10.0  # a builder needs 2 s to stop a stage, and may be in the middle of a rename
LINGER_S = 10.0
GIVE_UP_S = 60.0
SWEEP_S = 0.02
POLL_S = 0.1


class BuildProcess:
    """A build process, from its start until nothing of it runs any more.

    It is in a session of its own, and so are its stages: a signal to its group reaches it alone.

    Attributes:
        start: what the reconciler asked for.
        pidfd: readable once the process has ended; ``None`` where the kernel has no such thing.
        pipe: where its events come out.
        due_mono_s: when :meth:`advance` has something to do, unless something comes first.

    Raises:
        OSError: the process could not be started.
        StorageError: its files could not be written.
    """

    def __init__(
        self, launch: Launch, start: Start, job: BuilderJob, group: BuildGroup | None, now_mono_s: float
    ) -> None:
        self.start = start
        self._launch = launch
        self._job = job
        self._group = group
        self._files = BuilderFiles.of(launch.registry, start.key)
        self._account = Account()
        self._stopped: Stopped = "no"
        self._ended_mono_s: float | None = None
        self._deadline_mono_s = None if job.deadline_s is None else now_mono_s + job.deadline_s
        self._kill_mono_s: float | None = None
        self._killed_mono_s: float | None = None
        self._oom_before = oom_kills()
        self._process, read_fd = launch.spawn(start.attempt, self._files, job, group)
        self.pipe = EventPipe(read_fd, now_mono_s)
        self.pidfd = _pidfd(self._process.pid)
        self._next_mono_s = now_mono_s + POLL_S if self.pidfd is None else None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """The log to show now."""
        return self._account.log_now() or str(self._files.log)

    @property
    def stage(self) -> StageStatus | None:
        """Where the build is; ``None`` before it told."""
        return self._account.stage

    @property
    def due_mono_s(self) -> float | None:
        times = (self._deadline_mono_s, self._kill_mono_s, self._next_mono_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def listen(self, now_mono_s: float, *, all_of_it: bool = False) -> bool:
        """Take what has come out of the pipe; whether there is news of where the build is."""
        events = self.pipe.drain(now_mono_s) if all_of_it else self.pipe.read(now_mono_s)
        news = [self._account.take(event) for event in events]
        if self.pipe.flooded and self._stopped == "no":
            self._stopped, self._kill_mono_s = "flood", now_mono_s
        if self._account.outcome is not None and self._kill_mono_s is None and self._ended_mono_s is None:
            self._kill_mono_s = now_mono_s + LINGER_S
        return any(news)

    def stop(self, why: Stopped, now_mono_s: float, grace_s: float | None = None) -> None:
        """Ask it to end; what is left of it after ``grace_s``, by default that of the launch, is killed."""
        if self._stopped != "no" or self._ended_mono_s is not None:
            return
        self._stopped = why
        self._kill_mono_s = now_mono_s + (self._launch.grace_s if grace_s is None else grace_s)
        self._signal(signal.SIGTERM)

    def kill(self, now_mono_s: float) -> None:
        """End it now."""
        if self._stopped == "no":
            self._stopped = "asked"
        self._kill(now_mono_s)

    def advance(self, now_mono_s: float) -> Finished | None:
        """Do what is due; the end of it all once nothing of the build runs any more."""
        if _is_due(self._deadline_mono_s, now_mono_s):
            self._deadline_mono_s = None
            self.stop("deadline", now_mono_s)
        if _is_due(self._kill_mono_s, now_mono_s):
            if self._stopped == "no":
                self._stopped = "lingering"
            self._kill(now_mono_s)
        if self._ended_mono_s is None and not self._has_ended():
            given_up = self._given_up_mono_s(self._killed_mono_s)
            self._next_mono_s = given_up if self.pidfd is not None else now_mono_s + POLL_S
            return self._finished(None, now_mono_s) if _is_due(given_up, now_mono_s) else None
        if self._ended_mono_s is None:
            self._ended_mono_s = now_mono_s
            self._kill_mono_s = self._deadline_mono_s = None
        if self._kill_rest() and not _is_due(self._given_up_mono_s(self._ended_mono_s), now_mono_s):
            self._next_mono_s = now_mono_s + SWEEP_S
            return None
        return self._finished(self._process.wait(), now_mono_s)

    def _given_up_mono_s(self, since_mono_s: float | None) -> float | None:
        """When waiting for what was killed makes no sense any more: it is stuck in the kernel."""
        return None if since_mono_s is None else since_mono_s + GIVE_UP_S

    def _has_ended(self) -> bool:
        """Left a zombie, so that the number of its process group stays taken until the rest of that is killed."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # somebody ignores SIGCHLD: the kernel has reaped it
            return True

    def _kill(self, now_mono_s: float) -> None:
        self._kill_mono_s = None
        self._killed_mono_s = self._killed_mono_s or now_mono_s
        self._signal(signal.SIGKILL)
        if self._group is not None:
            self._group.kill()

    def _kill_rest(self) -> bool:
        """Kill what is left of an ended build, stages and what they started; whether there was anything."""
        self._signal(signal.SIGKILL)
        rest = of_attempt(self._launch.marker, self.start.attempt)
        for process in rest:
            process.kill()
        if self._group is None or not self._group.processes:
            return bool(rest)
        self._group.kill()
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def close(self) -> None:
        """Give back the descriptors."""
        self.pipe.close()
        if self.pidfd is not None:
            os.close(self.pidfd)

    def _finished(self, exit_status: int | None, now_mono_s: float) -> Finished:
        self.listen(now_mono_s, all_of_it=True)
        struck = self._group is not None and self._group.oom_kills > 0
        outcome = outcome_of(
            Ending(
                outcome=self._account.outcome,
                spec_digest=self._account.spec_digest,
                exit_status=exit_status,
                stopped=self._stopped,
                deadline_s=self._job.deadline_s,
                memory_limit_bytes=self._job.memory_limit_bytes,
                log=self._files.log,
                log_tail=read_tail(self._files.log),
                oom_killed=struck or oom_kills() > self._oom_before,
                garbage=self.pipe.garbage + self._account.malformed,
                reproduce=shlex.join(self._launch.command(self._files)),
            )
        )
        if self._group is not None:
            self._group.remove()
        return Finished(self.start.key, self.start.attempt, outcome, self._tidy())

    def _tidy(self) -> str | None:
        """Remove the files that tell nothing; the log to show from now on."""
        told, own = self._account.outcome is not None, self._files.log
        log = self._account.log_after()
        with suppress(OSError):
            if told:
                self._files.job.unlink(missing_ok=True)
            if own.stat().st_size:
                return log or str(own)
            if told:
                own.unlink()
        return log or (None if told else self.log)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # Linux before 5.3
        return None


def _is_due(time_s: float | None, now_s: float) -> bool:
    return time_s is not None and now_s >= time_s
