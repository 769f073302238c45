"""What became of a worker: from how it ended, what it reported and what it logged to a result or a named error.

Pure: everything that was observed is in :class:`Ending`.

    stopped by the launcher      cancelled → StageError, deadline → WorkerTimeout
    killed by SIGKILL            the OOM killer struck, or the log speaks of memory → WorkerOutOfMemory
    killed by SIGABRT            the log speaks of memory → WorkerOutOfMemory
    killed by any other signal   WorkerCrashed
    no report, or a torn one     exit 0 → WorkerSilent, else WorkerOutOfMemory or WorkerCrashed
    reported an error            that error
    reported a result            exit 0 → the result, else WorkerCrashed
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trtd.errors import (
    SpecError,
    StageError,
    TrtdError,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerSilent,
    WorkerTimeout,
    from_json,
)
from trtd.pipeline.job import Job
from trtd.pipeline.log import clean, crash_site, last_lines, speaks_of_memory
from trtd.pipeline.signal_names import signal_name

Stopped = Literal["no", "deadline", "cancelled"]


@dataclass(frozen=True)
class Result:
    """What a stage returned, the peak resident memory of its process and the time that its function took."""

    value: dict[str, Any]
    peak_rss_bytes: int
    duration_s: float


@dataclass(frozen=True)
class Ending:
    """All that was observed of a worker's end.

    Attributes:
        job: what it was asked to do.
        exit_status: as of ``subprocess``: the exit code, or minus the signal's number.
        stopped: whether, and why, the launcher stopped it.
        report: bytes of the report file; ``None`` if there is none.
        log: path of the log.
        log_tail: cleaned end of this run's part of the log.
        oom_killed: whether the kernel's out-of-memory killer struck nearby during the run.
        reproduce: the command line that runs the job by hand.
    """

    job: Job
    exit_status: int
    stopped: Stopped
    report: bytes | None
    log: Path
    log_tail: str
    oom_killed: bool
    reproduce: str


def judge(ending: Ending) -> Result:
    """The stage's result, or the error that says best why there is none.

    Raises:
        WorkerTimeout, WorkerOutOfMemory, WorkerCrashed, WorkerSilent: see the table at the top.
        TrtdError: the error that the stage itself raised, of the class that it had there.
    """
    if ending.stopped == "cancelled":
        raise StageError("was stopped because its caller cancelled it", where=ending.job.stage)
    if ending.stopped == "deadline":
        raise _timeout(ending)
    if ending.exit_status < 0:
        raise _killed(ending)
    report = _parse(ending.report)
    if report is None:
        raise _unreported(ending)
    if "error" in report:
        raise _reported(report, ending)
    if ending.exit_status != 0:
        raise _unreported(ending)
    return Result(report["result"], report["peak_rss_bytes"], report["duration_s"])


def encode_result(result: Result) -> bytes:
    """A worker's report of success. NaN and infinity pass, though standard JSON lacks them: only Python reads this.

    Raises:
        TypeError, ValueError: the value is not JSON data.
    """
    if not isinstance(result.value, dict):
        raise TypeError(f"a stage returns a dict of JSON data, not {type(result.value).__name__}")
    data = {"result": result.value, "peak_rss_bytes": result.peak_rss_bytes, "duration_s": result.duration_s}
    return json.dumps(data).encode()


def encode_error(error: TrtdError, *, explained: bool) -> bytes:
    """A worker's report of failure. ``explained``: the stage raised it on purpose, so it needs no log to understand."""
    return json.dumps({"error": error.to_json(), "explained": explained}).encode()


def _parse(data: bytes | None) -> dict[str, Any] | None:
    try:
        report = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict):
        return None
    whole = {"result", "peak_rss_bytes", "duration_s"} <= report.keys() or {"error", "explained"} <= report.keys()
    return report if whole else None


def _reported(report: dict[str, Any], ending: Ending) -> TrtdError:
    error = from_json(_cleaned(report["error"]))
    if not report["explained"]:
        return type(error)(
            f"{error.message}; log: {ending.log}",
            hint=_hint(ending, error.hint or "a bug, or a failure of a library that no stage foresaw"),
            where=ending.job.stage,
        )
    if not error.where and not isinstance(error, SpecError):
        error.where = ending.job.stage
    return error


def _cleaned(data: Any) -> Any:
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, list):
        return [_cleaned(item) for item in data]
    if isinstance(data, dict):
        return {key: _cleaned(value) for key, value in data.items()}
    return data


def _timeout(ending: Ending) -> TrtdError:
    site = crash_site(ending.log_tail)
    return WorkerTimeout(
        f"did not finish within its deadline of {ending.job.deadline_s:g} s and was killed"
        f"{f', in {site}' if site else ''}{_log(ending)}",
        hint=_hint(ending, "it hangs, or the deadline (build.deadline_s) is too short for this model and machine"),
        where=ending.job.stage,
    )


def _killed(ending: Ending) -> TrtdError:
    number = -ending.exit_status
    in_words = speaks_of_memory(ending.log_tail)
    if (number == signal.SIGKILL and (ending.oom_killed or in_words)) or (number == signal.SIGABRT and in_words):
        return _out_of_memory(ending)
    name, meaning = signal_name(number)
    site = crash_site(ending.log_tail)
    return WorkerCrashed(
        f"the worker died of {name} ({meaning}){f' in {site}' if site else ''}{_log(ending)}",
        hint=_hint(ending, "the last lines of the log say what it was doing"),
        where=ending.job.stage,
    )


def _unreported(ending: Ending) -> TrtdError:
    if ending.exit_status == 0:
        return WorkerSilent(
            f"the worker exited with status 0 but left {'a torn' if ending.report else 'no'} result{_log(ending)}",
            hint=_hint(ending, "a library ended the process, or the temporary folder is full"),
            where=ending.job.stage,
        )
    if speaks_of_memory(ending.log_tail):
        return _out_of_memory(ending)
    return WorkerCrashed(
        f"the worker exited with status {ending.exit_status} without saying why{_log(ending)}",
        hint=_hint(ending, "the last lines of the log say what it was doing"),
        where=ending.job.stage,
    )


def _out_of_memory(ending: Ending) -> TrtdError:
    how = f"exited with status {ending.exit_status}"
    if ending.exit_status < 0:
        how = f"died of {signal_name(-ending.exit_status)[0]}"
    return WorkerOutOfMemory(
        f"the worker ran out of memory{limit_text(ending.job)} and {how}{_log(ending)}",
        hint=_hint(ending, memory_advice(ending.job)),
        where=ending.job.stage,
    )


def limit_text(job: Job) -> str:
    """The memory limit in brackets; empty if there is none."""
    return f" (limit {job.memory_limit_bytes / 2**20:.0f} MiB)" if job.memory_limit_bytes else ""


def memory_advice(job: Job) -> str:
    """What to try when memory ran out."""
    if job.memory_limit_bytes:
        return "raise build.memory_limit_bytes in the spec, or use a smaller batch or input shape"
    return "free memory on this machine, or use a smaller batch or input shape"


def _log(ending: Ending) -> str:
    shown = "".join(f"\n    | {line}" for line in last_lines(ending.log_tail))
    return f"; log: {ending.log}{'' if ending.log_tail else ' (empty)'}{shown}"


def _hint(ending: Ending, advice: str) -> str:
    return f"{advice}; this line runs it again by hand:\n    {ending.reproduce}"
