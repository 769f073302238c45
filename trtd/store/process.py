"""Telling a living process from a dead one whose number was given out again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; ``None`` if there is none (a zombie counts as none).

    Source: proc_pid_stat(5), field 22. Its second field, the command, may itself hold spaces and parentheses.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] not in ("Z", "X"):
            return int(fields[19])
    return None


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this number and start time still runs."""
    return start_ticks(pid) == started


def command_line(limit_chars: int = 200) -> str:
    """This process's command, for people to read."""
    with contextlib.suppress(OSError):
        words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:limit_chars]
    return f"process {os.getpid()}"
