"""The process that one stage runs in: ``python -m trtd.pipeline.worker JOB.json``.

Run like that by hand it repeats a job: files go to a fresh temporary folder, progress and errors to stderr, the
result to stdout. The launcher adds options that wire the worker to it. The exit status is 0 with a result, 3 with an
error. Memory limit and threads are the job's in both cases; the deadline is kept by the launcher only.

stdout and stderr are the log, since native libraries print to both as they like; results and progress go elsewhere.
"""

from __future__ import annotations

import argparse
import faulthandler
import signal
from pathlib import Path

from trtd.pipeline.child import (
    accept_signals,
    die_with,
    leave,
    leave_no_core,
    log_everything,
    print_by_line,
    search_working_folder_last,
)


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
        die_with(options.parent)
        accept_signals()
        faulthandler.register(signal.SIGTERM, chain=True)  # sent at the deadline: the log says where the stage is
        leave_no_core()
    faulthandler.enable()
    search_working_folder_last()
    print_by_line()
    log_everything()

    from trtd.pipeline.attempt import attempt  # only now: the lines above come before anything that takes time

    status, report = attempt(options.job, options.progress_fd, by_hand=options.report is None)
    if options.report is None:
        print(report.decode())
    else:
        unfinished: Path = options.report.with_name(options.report.name + ".part")
        unfinished.write_bytes(report)
        unfinished.replace(options.report)
    return status


if __name__ == "__main__":
    leave(main())
