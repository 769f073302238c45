"""Times and next steps in the words of ``trtd status``."""

from __future__ import annotations

import math
import shlex
import time

from trtd.status import SubjectStatus, file_of

_UNITS = ((60, "s"), (60, "min"), (24, "h"), (7, "d"), (52, "w"))


def age(seconds: float) -> str:
    """``4 s``, ``12 min``, ``3 h``, ``5 d``, ``2 w``; a clock that was set back makes no negative ages."""
    if not math.isfinite(seconds):
        return "?"
    value = max(seconds, 0.0)
    for size, unit in _UNITS:
        if value < size:
            return f"{int(value)} {unit}"
        value /= size
    return f"{int(value)} y"


def uptime(seconds: float) -> str:
    """``3 d 4 h``, ``4 h 12 min``, ``12 min``: the two largest units."""
    if not math.isfinite(seconds):
        return "?"
    minutes = int(max(seconds, 0.0)) // 60
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else age(seconds)


def moment(at: float) -> str:
    """Local date and time, ``2026-11-23 14:02:11``; a question mark for what is no date."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "?"


def one_line(text: str) -> str:
    return " ".join(text.split())


def next_step(subject: SubjectStatus) -> str:
    """What a person can do now, in one or more lines; empty if nothing is asked of anybody."""
    if subject.problem is not None and subject.problem.hint:
        return subject.problem.hint
    name = shlex.quote(subject.name)
    return {
        "stalled": f"once its cause is mended: trtd retry {name}",
        "invalid": f"mend specs/{file_of(subject.key)}; it is read again as soon as it is saved",
        "conflict": "give each spec a name of its own, or remove all files but one",
        "stale": f"approve the rebuild: trtd retry {name}",
        "backoff": f"at once: trtd retry {name}",
    }.get(subject.phase, "")
