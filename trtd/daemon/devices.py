"""What builds can run on.

No driver library is asked: the kernel's files say it all, and reading them wakes no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trtd.engines.cpu import cpu_facts

CPU = "cpu"
_GPUS = "proc/driver/nvidia/gpus"
_UNKNOWN_UUID = "?"  # the driver shows GPU-????????-… until the GPU was first used


@dataclass(frozen=True)
class Device:
    """``cpu``, or a GPU by its UUID, with the name that its maker gave it; ``cores`` of the CPU, 0 for a GPU."""

    id: str
    name: str
    cores: int = 0


def devices(root: Path = Path("/")) -> tuple[Device, ...]:
    """The CPU, then the GPUs in the order of their bus addresses.

    Source: ``/proc/driver/nvidia/gpus/<bus address>/information``, lines of ``Key: value``. A GPU that the driver was
    told to leave alone does not count; one whose UUID it does not know yet goes by its bus address.
    """
    cpu = cpu_facts()
    found = [Device(CPU, cpu.model, cpu.cores)]
    for facts in _gpus(root / _GPUS):
        if facts.get("GPU Excluded", "No") == "No":
            uuid = facts.get("GPU UUID", _UNKNOWN_UUID)
            found.append(Device(facts["address"] if _UNKNOWN_UUID in uuid else uuid, facts.get("Model", "NVIDIA GPU")))
    return tuple(found)


def _gpus(folder: Path) -> Iterator[dict[str, str]]:
    try:
        addresses = sorted(os.listdir(folder))
    except OSError:  # there is no such driver
        return
    for address in addresses:
        try:
            text = (folder / address / "information").read_text(errors="replace")
        except OSError:
            continue
        lines = (line.partition(":") for line in text.splitlines())
        yield {key.strip(): value.strip() for key, _, value in lines} | {"address": address}
