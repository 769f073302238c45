"""How often the kernel's out-of-memory killer has struck: the only evidence that a SIGKILL leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int:
    """Processes killed for lack of memory so far: in this process's cgroup, else on the whole machine, else 0.

    Compare two readings: a rise means that some process nearby was killed, not which one.
    Source: Linux ``Documentation/admin-guide/cgroup-v2.rst`` (memory.events), cgroup-v1 ``memory.oom_control``,
    ``/proc/vmstat``.
    """
    for counters in _candidates(root):
        try:
            text = counters.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0


def _candidates(root: Path) -> Iterator[Path]:
    mount = root / "sys/fs/cgroup"
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for group in groups:
        hierarchy, _, rest = group.partition(":")
        controllers, _, path = rest.partition(":")
        # Inside a container the path may be the host's while the mount shows the container's own group as its root.
        for inside in (path.strip("/"), "."):
            if hierarchy == "0":
                yield mount / inside / "memory.events"
            elif "memory" in controllers.split(","):
                yield mount / "memory" / inside / "memory.oom_control"
    yield root / "proc/vmstat"
