"""The build processes of the daemon: started, listened to, stopped and buried, without ever waiting for one.

Use it from one thread, the one that lives as long as the daemon: the kernel kills a build when the *thread* that
started it ends. In a loop::

    selector.register(children, EVENT_READ)          # one descriptor for all of them
    selector.select(until the next of children.next_due() and your own)
    for news in [*children.handle(now), *children.poll(now)]:
        ...                                          # Progressed or Finished
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from trtd.daemon.build_process import GRACE_S, BuildProcess
from trtd.daemon.cgroup import Groups
from trtd.daemon.launching import Launch
from trtd.daemon.messages import Finished, Outcome, Start
from trtd.daemon.wire import BuilderJob, as_failure
from trtd.errors import TrtdError, WorkerCrashed
from trtd.registry.layout import Registry
from trtd.status import StageStatus

KILL_WAIT_S = 5.0


@dataclass(frozen=True)
class Progressed:
    """A build is somewhere else than before. ``log``: the log to show for it now."""

    key: str
    stage: StageStatus
    log: str


@dataclass(frozen=True)
class RunningBuild:
    """A build process that runs, or is not wholly gone yet."""

    attempt: int
    pid: int
    device: str


class Children:
    """All build processes of this daemon.

    Args:
        registry: whose specs are built; their logs go to ``.trtd/logs/``.
        marker: of this daemon, as :func:`trtd.daemon.orphans.marker` gives it.
        groups: where each build gets a control group of its own; ``None``: stages limit themselves.
        grace_s: how long a build that was asked to end gets to do so.
        module: that is run in place of the builder; for tests.
    """

    def __init__(
        self,
        registry: Registry,
        marker: str,
        groups: Groups | None = None,
        *,
        grace_s: float = GRACE_S,
        module: str = "trtd.daemon.builder",
    ) -> None:
        self._launch = Launch(registry, marker, grace_s, module)
        self._groups = groups
        self._processes: dict[int, BuildProcess] = {}
        self._unstarted: list[Finished] = []
        self._selector = selectors.EpollSelector()

    def fileno(self) -> int:
        """Readable whenever :meth:`handle` has something to do."""
        return self._selector.fileno()

    @property
    def running(self) -> Mapping[str, RunningBuild]:
        """By key. A build leaves it when its ``Finished`` is told."""
        return {
            process.start.key: RunningBuild(attempt, process.pid, process.start.device)
            for attempt, process in self._processes.items()
        }

    def start(self, start: Start, job: BuilderJob, now_mono_s: float) -> None:
        """Start a build. One that cannot be started is ``Finished`` at the next :meth:`poll`, with the reason."""
        job = replace(job, stalled_plans=start.stalled_plans)
        group = self._groups.make(start.attempt, job.memory_limit_bytes) if self._groups else None
        try:
            process = BuildProcess(self._launch, start, job, group, now_mono_s)
        except (OSError, TrtdError) as error:
            if group is not None:
                group.remove()
            reason = error if isinstance(error, TrtdError) else _unstartable(error)
            self._unstarted.append(Finished(start.key, start.attempt, Outcome("", failure=as_failure(reason))))
            return
        self._processes[start.attempt] = process
        self._selector.register(process.pipe.fd, selectors.EVENT_READ, process)
        if process.pidfd is not None:
            self._selector.register(process.pidfd, selectors.EVENT_READ, process)

    def stop(self, key: str, attempt: int, now_mono_s: float) -> None:
        """Ask a build to end: its running stage is stopped, and what is finished is kept. ``Finished`` follows."""
        process = self._processes.get(attempt)
        if process is not None and process.start.key == key:
            process.stop("asked", now_mono_s)

    def stop_all(self, now_mono_s: float, grace_s: float | None = None) -> None:
        """Ask all builds to end; what is left after ``grace_s`` is killed. ``Finished`` follows for each."""
        for process in self._processes.values():
            process.stop("asked", now_mono_s, grace_s)

    def handle(self, now_mono_s: float) -> list[Progressed | Finished]:
        """Take what has come from builds, without waiting. Of each only the last progress is told."""
        moved: dict[int, Progressed] = {}
        finished: list[Progressed | Finished] = []
        for key, _ in self._selector.select(0):
            process: BuildProcess = key.data
            attempt = process.start.attempt
            if attempt not in self._processes:  # its other descriptor was handled just now
                continue
            if key.fd == process.pipe.fd:
                if process.listen(now_mono_s) and process.stage is not None:
                    moved[attempt] = Progressed(process.start.key, process.stage, process.log)
                if process.pipe.ended or process.pipe.flooded:
                    self._unregister(process.pipe.fd)
            else:
                self._unregister(key.fd)
            finished += self._advance(process, now_mono_s)
        return [*moved.values(), *finished]

    def poll(self, now_mono_s: float) -> list[Finished]:
        """Do what is due by the clock: deadlines, grace periods, sweeping up behind a build."""
        finished, self._unstarted = self._unstarted, []
        for process in list(self._processes.values()):
            due = process.due_mono_s
            if due is not None and now_mono_s >= due:
                finished += self._advance(process, now_mono_s)
        return finished

    def next_due(self) -> float | None:
        """When :meth:`poll` has something to do next, on the clock of its argument; ``None``: not by the clock."""
        if self._unstarted:
            return 0.0
        times = [process.due_mono_s for process in self._processes.values()]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def drain(self, deadline_s: float) -> list[Finished]:
        """Stop all builds, wait up to ``deadline_s`` and kill what is left. The only call that waits."""
        self.stop_all(time.monotonic(), deadline_s)
        finished = self._wait(deadline_s)
        return finished + self.kill_all()

    def kill_all(self) -> list[Finished]:
        """Kill all builds and wait, not for long, until they are gone."""
        for process in self._processes.values():
            process.kill(time.monotonic())
        return self._wait(KILL_WAIT_S)

    def close(self) -> None:
        """Give back the descriptor. Builds that still run are not touched, and not heard any more."""
        self._selector.close()

    def _wait(self, patience_s: float) -> list[Finished]:
        finished: list[Finished] = []
        give_up_s = time.monotonic() + patience_s
        while (self._processes or self._unstarted) and (now_s := time.monotonic()) < give_up_s:
            due_s = self.next_due()
            self._selector.select(max(0.0, min(give_up_s, now_s + 1 if due_s is None else due_s) - now_s))
            now_s = time.monotonic()
            finished += [news for news in self.handle(now_s) if isinstance(news, Finished)]
            finished += self.poll(now_s)
        return finished

    def _advance(self, process: BuildProcess, now_mono_s: float) -> list[Finished]:
        finished = process.advance(now_mono_s)
        if finished is None:
            return []
        for descriptor in (process.pipe.fd, process.pidfd):  # before they are closed and their numbers given out again
            if descriptor is not None:
                self._unregister(descriptor)
        process.close()
        del self._processes[process.start.attempt]
        return [finished]

    def _unregister(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)


def _unstartable(error: OSError) -> WorkerCrashed:
    return WorkerCrashed(
        f"the build process could not be started: {error}",
        hint="no memory, files or process slots left? see `free -m`, `ulimit -n` and `ulimit -u`",
    )
