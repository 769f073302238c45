"""The process that one build runs in: ``python -m trtd.daemon.builder JOB.json``.

Run like that by hand it repeats a build and writes its events to stderr. The daemon adds options that wire the process
to it. The exit status is 0 whenever an outcome was told, be it a failure.

stdout and stderr are the log; events go elsewhere. SIGTERM cancels: what only reads is broken off at once, a running
stage is stopped, and whatever was finished stays for the next build.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from contextlib import suppress
from pathlib import Path

from trtd.daemon.cancel import Cancel
from trtd.pipeline.child import (
    accept_signals,
    die_with,
    leave,
    leave_no_core,
    print_by_line,
    search_working_folder_last,
)

# What the machine is there for, serving for instance, goes first. Stages inherit it, and so both sides of a timing do.
NICENESS = 5


def main(arguments: list[str] | None = None) -> int:
    """Build what the job says and tell the outcome; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trtd.daemon.builder", description="Run one build by hand.")
    parser.add_argument("job", type=Path, metavar="JOB.json", help="kept by a build that died; its error names it")
    wiring = parser.add_argument_group("set by the daemon")
    wiring.add_argument("--parent", type=int, metavar="PID", help="die when this process, the parent, dies")
    wiring.add_argument("--events-fd", type=int, metavar="FD", help="write events there as JSON lines")
    wiring.add_argument("--group", type=Path, metavar="FOLDER", help="join this control group")
    options = parser.parse_args(arguments)
    cancel = Cancel()
    if options.parent is not None:
        die_with(options.parent)
        accept_signals()
        leave_no_core()
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)
    cancel.listen()
    faulthandler.enable()
    joined = options.group is not None and _join(options.group)
    search_working_folder_last()
    print_by_line()

    from trtd.daemon.building import run  # only now: the lines above come before anything that takes time

    run(options.job, sys.stderr.fileno() if options.events_fd is None else options.events_fd, cancel, limited=joined)
    return 0


def _join(group: Path) -> bool:
    """Whether this process is in the control group now, and all that it starts will be."""
    try:
        (group / "cgroup.procs").write_text("0")
    except OSError as error:
        sys.stderr.write(f"could not join the control group {group}: {error}\n")
        return False
    return True


if __name__ == "__main__":
    leave(main())
