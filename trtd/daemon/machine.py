"""How much of this machine the daemon may use: the sizes that the operator's limits default to."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")
_UNKNOWN_MEMORY_BYTES = 4 << 30


def usable_cores(root: Path = _ROOT) -> int:
    """CPU cores that this process may use: those of its affinity, or fewer if its control group has a quota."""
    cores = len(os.sched_getaffinity(0))
    for group in _own_groups(root):
        with suppress(OSError, ValueError):  # "max 100000" where there is no quota
            quota, period = (int(word) for word in (group / "cpu.max").read_text().split())
            cores = min(cores, max(1, math.ceil(quota / period)))
    return cores


def usable_memory_bytes(root: Path = _ROOT) -> int:
    """RAM of the machine, or less if a control group around this process has a limit. Swap does not count."""
    limits = []
    with suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    for group in _own_groups(root):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            limits.append(int((group / "memory.max").read_text()))
    return min(limits, default=_UNKNOWN_MEMORY_BYTES)


def _own_groups(root: Path) -> Iterator[Path]:
    """This process's control group (version 2) and all around it.

    Source: Linux ``Documentation/admin-guide/cgroup-v2.rst``. Inside a container the path may be the host's while the
    mount shows the container's own group as its root; the groups that are not there are passed over by the readers.
    """
    mount = root / "sys/fs/cgroup"
    path = ""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                path = line[3:].strip("/")
    inside = mount / path
    yield inside
    yield from (parent for parent in inside.parents if parent.is_relative_to(mount))
