"""How times are written: ages, waits and moments."""

from __future__ import annotations

import time

_UNITS = ((60, "s"), (60, "min"), (24, "h"), (7, "d"), (52, "w"))


def age(seconds: float) -> str:
    """``4 s``, ``12 min``, ``3 h``, ``5 d``, ``2 w``; a clock that was set back makes no negative ages."""
    value = max(seconds, 0.0)
    for size, unit in _UNITS:
        if value < size:
            return f"{int(value)} {unit}"
        value /= size
    return f"{int(value)} y"


def uptime(seconds: float) -> str:
    """``3 d 4 h``, ``4 h 12 min``, ``12 min``: the two largest units."""
    minutes = int(max(seconds, 0.0)) // 60
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else age(seconds)


def moment(at: float, now: float) -> str:
    """Local time of today, ``14:02:11``; of another day the date, ``23 Nov``. Always 8 columns."""
    try:
        then, today = time.localtime(at), time.localtime(now)
    except (OverflowError, ValueError, OSError):
        return "?".rjust(8)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M:%S", then)
    return f"{then.tm_mday:2d} {_MONTHS[then.tm_mon - 1]}".rjust(8)


_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
