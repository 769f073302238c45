"""Talking to one short-lived program: give it its input, keep the last of what it says, end it at its deadline."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

_TAIL_BYTES = 2048
_PIECE_BYTES = 65536


def converse(process: subprocess.Popen[bytes], stdin: bytes, deadline: float) -> tuple[bool, str]:
    """Feed a process and read what it says, until it has ended or the deadline is over.

    What it says is read to the end of the process, not of the pipe, which children of its may hold open; only the last
    part is kept. The process is not reaped.

    Returns:
        Whether it has ended by itself, and the last of what it said.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    tail, left = b"", memoryview(stdin)
    for pipe in (process.stdin, process.stdout):
        os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as selector, _pidfd(process.pid) as ended:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        finished = False
        while not finished and (patience := deadline - time.monotonic()) > 0:
            ready = [key.fileobj for key, _ in selector.select(patience)]
            if process.stdin in ready:
                left = _feed(process.stdin, left)
                if not left:
                    selector.unregister(process.stdin)
                    with suppress(OSError):
                        process.stdin.close()
            finished = ended in ready
            if process.stdout in ready or finished:
                said = _read(process.stdout)
                tail = (tail + (said or b""))[-_TAIL_BYTES:]
                if said == b"" and not finished:
                    selector.unregister(process.stdout)
    return finished, tail.decode("utf-8", "backslashreplace").strip()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that has not been reaped yet, and its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def ending(status: int) -> str:
    """How a process ended, in words."""
    return f"it exited with status {status}" if status >= 0 else f"it was killed by signal {-status}"


def _feed(pipe: IO[bytes], data: memoryview) -> memoryview:
    """Write what fits; returns what is left, nothing if nobody reads any more."""
    try:
        return data[os.write(pipe.fileno(), data) :]
    except BlockingIOError:
        return data
    except OSError:
        return data[:0]


def _read(pipe: IO[bytes]) -> bytes | None:
    """What can be read now: ``b""`` at the end, ``None`` if there is nothing."""
    try:
        return os.read(pipe.fileno(), _PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """A descriptor that is readable once the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
