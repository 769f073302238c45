"""What this machine's CPU can do, as far as engines care."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class CpuFacts:
    """Model name, usable cores, and whether 8-bit dot products accumulate in 32 bits (VNNI, or Arm's dot product)."""

    model: str
    cores: int
    vnni: bool


@cache
def cpu_facts() -> CpuFacts:
    """Read ``/proc/cpuinfo``; unknown machines count as having no VNNI, which costs accuracy, never correctness."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return CpuFacts(
        model=fields.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        vnni=bool(flags & {"avx512_vnni", "avx_vnni", "asimddp"}),
    )
