"""The right to have a GPU to oneself, on the whole machine: a lock file for each, open to every user."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from trtd.errors import RegistryBusy
from trtd.store.lock import hold

LOCK_DIR = "TRTD_LOCK_DIR"
"""Folder of the lock files. All who build on one machine must see the same."""

SHARED_LOCKS = (Path("/run/lock/trtd"), Path("/run/lock"), Path("/tmp"))
_POLL_S = 0.1


@contextmanager
def occupy(gpus: Iterable[str], what: str, while_busy: Callable[[RegistryBusy], None]) -> Iterator[None]:
    """Have GPUs to oneself while the context lasts; waits for those who have them, in this process and in others.

    Args:
        gpus: their UUIDs; with none, nothing is locked.
        what: what for, e.g. ``verify digits-int8``; shown to those who wait.
        while_busy: called some times a second while somebody else has one of them, with an error that says who. What
            it raises ends the wait.

    Raises:
        StorageError: a lock file cannot be made, or not be opened.
    """
    with ExitStack() as held:
        for gpu in sorted(gpus):  # in one order for all, so that no two wait for each other
            _take(held, gpu, what, while_busy)
        yield


def _take(held: ExitStack, gpu: str, what: str, while_busy: Callable[[RegistryBusy], None]) -> None:
    file = lock_file(gpu)
    _open_to_all(file)
    while True:
        try:
            held.enter_context(hold(file, f"use {gpu} to {what}"))
            return
        except RegistryBusy as busy:
            while_busy(busy)
        time.sleep(_POLL_S)


def lock_file(gpu: str) -> Path:
    """The GPU's lock file: in ``$TRTD_LOCK_DIR``, else in ``/run/lock/trtd`` or ``/run/lock``, else in ``/tmp``.

    ``packaging/trtd.tmpfiles`` makes the second one: where only root may write to ``/run/lock``, a service would be
    left with a ``/tmp`` of its own, which nobody shares. Not in ``$TMPDIR``: every build has one of its own.
    """
    given = os.environ.get(LOCK_DIR)
    folder = Path(given) if given else next((f for f in SHARED_LOCKS if os.access(f, os.W_OK)), SHARED_LOCKS[-1])
    return folder / f"trtd-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"


def _open_to_all(file: Path) -> None:
    """Make the lock file so that every user can take the lock: a GPU is shared by all who build on the machine."""
    with suppress(OSError):  # it is there already, or `hold` tells why it cannot be
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(descriptor, 0o666)  # whatever the umask is
        finally:
            os.close(descriptor)
