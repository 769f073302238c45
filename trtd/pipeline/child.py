"""What the processes that trtd starts do first and last: stage workers, and the daemon's builders.

Imports nothing that takes time: the first lines of a child come before everything else.
"""

from __future__ import annotations

import ctypes
import io
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 4


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent's *thread* that made it ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(EXIT_ORPHANED)


def accept_signals() -> None:
    """Undo what a parent may have blocked or ignored."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave_no_core() -> None:
    """A crash shall not fill the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def search_working_folder_last() -> None:
    """``python -m`` puts the working folder first, where somebody's ``onnx.py`` would hide the library."""
    if not getattr(sys.flags, "safe_path", False) and sys.path and sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))


def print_by_line() -> None:
    """Or a crash loses what was printed before it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def leave(status: int) -> None:
    """Exit without running native destructors: some crash at exit, and by now everything is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)


def log_everything() -> None:
    """Have what is told to trtd's loggers written to standard error, from INFO on."""
    import logging  # what was asked for before does without

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(name)s %(levelname)s] %(message)s"))
    logger = logging.getLogger("trtd")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
