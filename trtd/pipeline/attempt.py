"""Inside the worker: run the stage's function under the job's limits and make a report of what came of it."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtd.errors import EngineError, EnvironmentMissing, StageError, StorageError, TrtdError, WorkerOutOfMemory
from trtd.pipeline.job import Job
from trtd.pipeline.log import speaks_of_memory
from trtd.pipeline.outcome import Result, encode_error, encode_result, limit_text, memory_advice
from trtd.pipeline.progress import Progress, pipe_sender, print_sender

EXIT_ERROR = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

StageFunction = Callable[[dict[str, Any], Path, Progress], dict[str, Any]]


def attempt(job_file: Path, progress_fd: int | None, *, by_hand: bool) -> tuple[int, bytes]:
    """Run the job once; returns the worker's exit status and its report.

    By hand, the stage writes to a fresh temporary folder: the job's own may hold files by now, or be gone.
    """
    job = Job.model_validate_json(job_file.read_bytes())
    progress = Progress(job.stage, print_sender if progress_fd is None else pipe_sender(progress_fd))
    out = job.out
    if by_hand:
        out = Path(tempfile.mkdtemp(prefix="trtd-stage-"))
        print(f"{job.stage}: files go to {out}", file=sys.stderr)
    try:
        _limit(job)
        started_s = time.monotonic()
        value = _stage_function(job)(job.inputs, out, progress)
        return 0, encode_result(Result(value, peak_rss_bytes(), time.monotonic() - started_s))
    except Exception as error:
        _unlimit()  # an error about memory must not lack the memory to be told
        with contextlib.suppress(OSError):  # the log's disk may be what is full
            traceback.print_exc()
        if isinstance(error, TrtdError) and not _blames_the_engine_for_memory(error):
            return EXIT_ERROR, encode_error(error, explained=True)
        return EXIT_ERROR, encode_error(_named(error, job), explained=False)


def _blames_the_engine_for_memory(error: TrtdError) -> bool:
    """A library that ran out of memory says so in an error of its own, which a backend passes on as the engine's."""
    return isinstance(error, EngineError) and speaks_of_memory(error.message)


def _stage_function(job: Job) -> StageFunction:
    call = job.call
    if call is None:
        from trtd.pipeline.stages import STAGES

        call = STAGES[job.stage]
    module, _, function = call.partition(":")
    found: StageFunction = getattr(importlib.import_module(module), function)
    return found


def _limit(job: Job) -> None:
    """Set the sizes of thread pools, before any library reads them, and the memory limit.

    RLIMIT_DATA and not RLIMIT_AS: the libraries reserve far more address space than they use. Thread stacks count.
    """
    if job.threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(job.threads)))
    if job.memory_limit_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = job.memory_limit_bytes if hard == resource.RLIM_INFINITY else min(job.memory_limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _unlimit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _named(error: Exception, job: Job) -> TrtdError:
    """The error of trtd's that fits an exception which the stage did not map."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__qualname__}: {error}" if str(error) else type(error).__qualname__
    text = f"{what} (in {frame.name}, {frame.filename}:{frame.lineno})"
    if isinstance(error, MemoryError) or speaks_of_memory(str(error)):
        return WorkerOutOfMemory(f"the worker ran out of memory{limit_text(job)}: {text}", hint=memory_advice(job))
    if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
        return StorageError(text, hint="free space on that disk, or see why it refuses to be written")
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] != "trtd":
        return EnvironmentMissing(text, hint=f"install what provides {error.name!r}, or mend it")
    return StageError(text)


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far.

    From VmHWM: ``ru_maxrss`` is handed down through fork and exec, so it would show a large launcher's own peak.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
