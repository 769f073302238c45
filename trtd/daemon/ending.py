"""What became of a build process: from how it ended and what it told to an outcome. Pure.

told its outcome whole      that outcome, however the process ended after it; what the deadline cut off is a timeout
stopped on request          cancelled
outlived its deadline       WorkerTimeout
flooded the pipe            WorkerCrashed
killed by SIGKILL           the OOM killer struck, or the log speaks of memory → WorkerOutOfMemory
killed by any other signal  WorkerCrashed
exited with 0               WorkerSilent
exited with anything else   the log speaks of memory → WorkerOutOfMemory, else WorkerCrashed
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trtd.daemon.messages import Failure, Outcome
from trtd.daemon.wire import as_failure
from trtd.errors import StageError, WorkerCrashed, WorkerOutOfMemory, WorkerSilent, WorkerTimeout
from trtd.pipeline.log import last_lines, speaks_of_memory
from trtd.pipeline.signal_names import signal_name
from trtd.status import Problem

CANCELLED = Failure(Problem("cancelled", "the build was stopped before it was done"), "backoff")
"""Of whoever asks for it: a build that nobody stopped on purpose is tried again."""

Stopped = Literal["no", "asked", "deadline", "flood", "lingering"]


@dataclass(frozen=True)
class Ending:
    """All that was observed of a build process's end.

    Attributes:
        outcome: what it told; ``None`` if it did not get that far.
        spec_digest: of the spec that it read; empty if it did not tell.
        exit_status: as of ``subprocess``: the exit code, or minus the signal's number; ``None``: it would not die.
        stopped: whether, and why, the daemon stopped it; ``lingering``: it had told its outcome and did not exit.
        deadline_s, memory_limit_bytes: as they were.
        log, log_tail: path and cleaned end of what it printed.
        oom_killed: whether the kernel's out-of-memory killer struck in it or nearby.
        garbage: lines on the pipe that were no events.
        reproduce: the command line that runs it by hand.
    """

    outcome: Outcome | None
    spec_digest: str
    exit_status: int | None
    stopped: Stopped
    deadline_s: float | None
    memory_limit_bytes: int | None
    log: Path
    log_tail: str
    oom_killed: bool
    garbage: int
    reproduce: str


def outcome_of(ending: Ending) -> Outcome:
    """The outcome that the reconciler is told."""
    outcome = ending.outcome
    if outcome is None:
        return Outcome(ending.spec_digest, failure=_failure(ending))
    if ending.stopped != "deadline":
        return outcome
    late = as_failure(_timeout(ending))
    engines = tuple(replace(e, failure=late) if e.failure == CANCELLED else e for e in outcome.engines)
    return replace(outcome, engines=engines, failure=late if outcome.failure == CANCELLED else outcome.failure)


def _failure(ending: Ending) -> Failure:
    if ending.stopped == "asked":
        return CANCELLED
    return as_failure(_timeout(ending) if ending.stopped == "deadline" else _death(ending))


def _death(ending: Ending) -> StageError:
    status, in_words = ending.exit_status, speaks_of_memory(ending.log_tail)
    hint = f"the last lines of the log say what it was doing; this line runs it again by hand:\n    {ending.reproduce}"
    if ending.stopped == "flood":
        return WorkerCrashed(
            f"the build process flooded the daemon with messages and was killed{_log(ending)}", hint=hint
        )
    if status is None:
        return WorkerTimeout(
            f"the build process would not die, even of SIGKILL{_log(ending)}",
            hint="it is stuck in the kernel: a dead network disk, or a driver; `dmesg` may tell",
        )
    if status == 0:
        return WorkerSilent(f"the build process exited with status 0 but told no outcome{_log(ending)}", hint=hint)
    if (status == -signal.SIGKILL and ending.oom_killed) or (status != -signal.SIGTERM and in_words):
        limit = f" (limit {ending.memory_limit_bytes / 2**20:.0f} MiB)" if ending.memory_limit_bytes else ""
        return WorkerOutOfMemory(
            f"the build process ran out of memory{limit}{_log(ending)}",
            hint="raise the limit, free memory on this machine, or use a smaller batch or input shape",
        )
    if status > 0:
        return WorkerCrashed(f"the build process exited with status {status}{_log(ending)}", hint=hint)
    name, meaning = signal_name(-status)
    return WorkerCrashed(f"the build process died of {name} ({meaning}){_log(ending)}", hint=hint)


def _timeout(ending: Ending) -> WorkerTimeout:
    return WorkerTimeout(
        f"the build did not finish within its deadline of {ending.deadline_s or 0:g} s and was stopped{_log(ending)}",
        hint="what was finished is kept, so that the next try goes on from there; if it hangs, see the log",
    )


def _log(ending: Ending) -> str:
    garbage = f"; it sent {ending.garbage} lines that are no events" if ending.garbage else ""
    shown = "".join(f"\n    | {line}" for line in last_lines(ending.log_tail, 4))
    return f"{garbage}; log: {ending.log}{'' if ending.log_tail else ' (empty)'}{shown}"
