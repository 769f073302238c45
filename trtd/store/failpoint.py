"""Named places at which a test can kill the process or make the disk refuse.

``TRTD_FAILPOINT=publish.record-renamed`` (or ``…:kill``) ends the process there with SIGKILL;
``TRTD_FAILPOINT=publish.record-renamed:error=ENOSPC`` raises that ``OSError`` there, as a full disk would.
Without the variable a failpoint costs one look into the environment.
"""

from __future__ import annotations

import errno
import os
import signal

from trtd.errors import UsageError

VARIABLE = "TRTD_FAILPOINT"


def failpoint(name: str) -> None:
    """Do here what ``TRTD_FAILPOINT`` says; nothing if it names another place or is not set.

    Raises:
        OSError: the one asked for with ``:error=``.
        UsageError: the variable names this place and an action that does not exist.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    place, _, action = wanted.partition(":")
    if place != name:
        return
    if action in ("", "kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    number = getattr(errno, action.removeprefix("error="), None)
    if not isinstance(number, int):
        raise UsageError(f"{VARIABLE}={wanted} asks for {action!r}", hint="use NAME, NAME:kill or NAME:error=ENOSPC")
    raise OSError(number, os.strerror(number), name)
