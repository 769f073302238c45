"""Forked children that run a piece of a test and may die of SIGKILL on the way."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

from trtd.store.failpoint import VARIABLE


def fork(action: Callable[[], object]) -> int:
    """Start ``action`` in a forked process, which exits 0 when it returns and 1 when it raises; its process id."""
    with warnings.catch_warnings():
        # Other tests in this process may have started threads; the child runs Python and system calls only.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return child


def run_in_child(action: Callable[[], object], failpoint: str = "") -> int:
    """Run ``action`` in a forked process that dies at ``failpoint``; its exit code, ``-9`` if it was killed."""

    def armed() -> None:
        if failpoint:
            os.environ[VARIABLE] = failpoint
        action()

    return os.waitstatus_to_exitcode(os.waitpid(fork(armed), 0)[1])
