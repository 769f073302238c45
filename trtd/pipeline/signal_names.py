"""Signals that end processes, in words."""

from __future__ import annotations

import signal

MEANINGS = {
    signal.SIGSEGV: "invalid memory access, most often a bug in a native library",
    signal.SIGABRT: "a native library gave up: a failed assertion or an uncaught C++ exception",
    signal.SIGBUS: "access past the end of a mapped file, or the disk or shared memory behind it is full",
    signal.SIGILL: "an instruction that this CPU does not have: a library was built for a newer CPU",
    signal.SIGFPE: "an integer division by zero in a native library",
    signal.SIGKILL: "killed from outside: by the kernel when memory runs out, or by somebody",
    signal.SIGTERM: "somebody asked it to stop",
    signal.SIGSYS: "a system call that the sandbox forbids",
}


def signal_name(number: int) -> tuple[str, str]:
    """Name and likely meaning of the signal that a process died of."""
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"signal {number}", signal.strsignal(number) or "unknown"
    return known.name, MEANINGS.get(known, signal.strsignal(number) or "unknown")
