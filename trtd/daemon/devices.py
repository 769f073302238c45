"""What builds can run on, and the right to have a GPU to oneself.

No driver library is asked: the kernel's files say it all, and reading them wakes no GPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trtd.engines.cpu import cpu_facts
from trtd.store.lock import hold

CPU = "cpu"
LOCK_DIR = "TRTD_LOCK_DIR"
"""Folder of the GPUs' lock files. All who build on one machine must see the same."""

SHARED_LOCKS = (Path("/run/lock/trtd"), Path("/run/lock"), Path("/tmp"))
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


@contextmanager
def occupy(device: str) -> Iterator[None]:
    """Have a GPU to oneself, on the whole machine, while the context lasts. The CPU is shared: nothing is locked.

    Raises:
        RegistryBusy: another build has it; the message says which process.
        StorageError: the lock file cannot be made, or not be opened.
    """
    if device == CPU:
        yield
        return
    file = lock_file(device)
    _open_to_all(file)
    with hold(file, f"build on {device}"):
        yield


def lock_file(device: str) -> Path:
    """The device's lock file: in ``$TRTD_LOCK_DIR``, else in ``/run/lock/trtd`` or ``/run/lock``, else in ``/tmp``.

    ``packaging/trtd.tmpfiles`` makes the second one: where only root may write to ``/run/lock``, a service would be
    left with a ``/tmp`` of its own, which nobody shares. Not in ``$TMPDIR``: every build has one of its own.
    """
    given = os.environ.get(LOCK_DIR)
    folder = Path(given) if given else next((f for f in SHARED_LOCKS if os.access(f, os.W_OK)), SHARED_LOCKS[-1])
    return folder / f"trtd-{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock"


def _open_to_all(file: Path) -> None:
    """Make the lock file so that every user can take the lock: a GPU is shared by all who build on the machine."""
    with suppress(OSError):  # it is there already, or `hold` tells why it cannot be
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(descriptor, 0o666)  # whatever the umask is
        finally:
            os.close(descriptor)
