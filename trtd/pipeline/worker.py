"""The process that one stage runs in: ``python -m trtd.pipeline.worker JOB.json``.

Run like that by hand it repeats a job: files go to a fresh temporary folder, progress and errors to stderr, the
result to stdout. The launcher adds options that wire the worker to it. The exit status is 0 with a result, 3 with an
error. Memory limit and threads are the job's in both cases; the deadline is kept by the launcher only.

stdout and stderr are the log, since native libraries print to both as they like; results and progress go elsewhere.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import io
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the job and hand over its report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trtd.pipeline.worker", description="Run one stage by hand.")
    parser.add_argument("job", type=Path, metavar="JOB.json", help="kept by a stage that failed; its error names it")
    wiring = parser.add_argument_group("set by the launcher")
    wiring.add_argument("--parent", type=int, metavar="PID", help="die when this process, the parent, dies")
    wiring.add_argument("--progress-fd", type=int, metavar="FD", help="write progress there as JSON lines")
    wiring.add_argument("--report", type=Path, metavar="FILE", help="write the result or the error there")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        _die_with(options.parent)
        _reset_signals()
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable()
    _search_working_folder_last()
    if isinstance(sys.stdout, io.TextIOWrapper):  # by line, or a crash loses what was printed before it
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")

    from trtd.pipeline.attempt import attempt  # only now: the lines above come before anything that takes time

    status, report = attempt(options.job, options.progress_fd, by_hand=options.report is None)
    if options.report is None:
        print(report.decode())
    else:
        unfinished: Path = options.report.with_name(options.report.name + ".part")
        unfinished.write_bytes(report)
        unfinished.replace(options.report)
    return status


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the launcher's thread that made it ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(EXIT_ORPHANED)


def _reset_signals() -> None:
    """Undo what a launcher may have blocked or ignored; have SIGTERM, sent at the deadline, log where the stage is."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.register(signal.SIGTERM, chain=True)


def _search_working_folder_last() -> None:
    """``python -m`` puts the working folder first, where somebody's ``onnx.py`` would hide the library."""
    if not getattr(sys.flags, "safe_path", False) and sys.path and sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))


def _leave(status: int) -> None:
    """Exit without running native destructors: some crash at exit, and by now everything is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
