"""When to try again: pure functions of what failed and how often."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

JITTER = 0.2
_MOST_DOUBLINGS = 60  # beyond any cap; keeps a torn count from overflowing


@dataclass(frozen=True)
class Timing:
    """How long to wait between tries.

    Attributes:
        backoff_s, backoff_max_s: after the first failure of class ``backoff``, and never longer than.
        wait_s: after a failure of class ``wait``.
    """

    backoff_s: float = 10.0
    backoff_max_s: float = 3600.0
    wait_s: float = 30.0


def backoff_delay_s(key: str, failures: int, timing: Timing) -> float:
    """How long to wait after the ``failures``-th failure in a row.

    Doubling, ±20 %, never more than the cap. The jitter is a hash of ``key`` and ``failures``: subjects that failed
    together do not come back together, and a replay of the same events decides the same.
    """
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    delay_s = min(timing.backoff_s * 2.0**doublings, timing.backoff_max_s)
    digest = hashlib.blake2b(f"{key}\0{failures}".encode("utf-8", "replace"), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return min(delay_s * (1 - JITTER + 2 * JITTER * share), timing.backoff_max_s)


def remaining_s(next_try_wall_s: float, now_wall_s: float, longest_s: float) -> float:
    """What is left of a delay after a restart, by wall clocks that may have jumped: within 0 and ``longest_s``."""
    left_s = next_try_wall_s - now_wall_s
    if left_s <= 0:
        return 0.0
    return min(left_s, max(longest_s, 0.0)) if left_s < float("inf") else max(longest_s, 0.0)
