"""A program that shows the dashboard, run by the tests inside a pseudo terminal: ``python watched.py [MODE]``."""

from __future__ import annotations

import fcntl
import sys
import termios
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.ui.dashboard.samples import ordinary
from trtd.errors import StorageError
from trtd.status import Snapshot
from trtd.ui.dashboard import watch


def main(mode: str) -> int:
    snapshot = ordinary()
    looks = 0

    def read() -> Snapshot:
        nonlocal looks
        looks += 1
        if mode == "bug" and looks > 3:
            raise ZeroDivisionError("a bug in the reader")
        if mode == "unreadable" and looks > 2:
            raise StorageError("the state database cannot be read", where="state.db")
        return snapshot

    return watch(
        read, report=lambda name, version: None, log_tail=lambda subject: [f"log of {subject.name}", "\x1b[2Jend"]
    )


if __name__ == "__main__":
    if "job" not in sys.argv:  # the leader of a session that has no terminal yet; a job has its shell's
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    status = main(sys.argv[1] if len(sys.argv) > 1 else "")
    with suppress(OSError):  # there may be no terminal any more
        print("left with", status, flush=True)
    raise SystemExit(status)
