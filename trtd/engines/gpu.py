"""The NVIDIA GPUs of this machine, as the driver's management library (NVML) tells them. No CUDA context is made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICE_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""What a process must have in its environment for CUDA to count GPUs as this module does."""
_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Gpu:
    """One GPU, or a part of one (MIG), that this process may use.

    Attributes:
        uuid: ``GPU-…``, the same on every start.
        capability: CUDA compute capability, ``9.0``.
    """

    uuid: str
    name: str
    capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Gpus:
    """What was found.

    Attributes:
        driver: its version, ``580.159.04``.
        cuda: newest CUDA version that the driver serves, ``13.0``.
        reason: why there is none, in words that can follow a colon.
    """

    found: tuple[Gpu, ...]
    driver: str = ""
    cuda: str = ""
    reason: str = ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities, each once, in the order of the GPUs."""
        return tuple(dict.fromkeys(gpu.capability for gpu in self.found))


def gpus() -> Gpus:
    """The visible GPUs. The driver is asked again only when its files in ``/proc`` changed: asking may wake a GPU."""
    return _ask(os.environ.get(VISIBLE), _driver_state())


def _driver_state() -> tuple[str, ...]:
    try:
        files = [_DRIVER / "version", *sorted((_DRIVER / "gpus").glob("*/information"))]
        return tuple(file.read_text(errors="replace") for file in files)
    except OSError:
        return ()


@lru_cache(maxsize=4)
def _ask(visible: str | None, state: tuple[str, ...]) -> Gpus:
    try:
        import pynvml
    except ImportError:
        return Gpus((), reason="nvidia-ml-py, which finds them, is not installed: pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return Gpus((), reason="no NVIDIA driver is installed" if missing else f"the NVIDIA driver says: {error}")
    try:
        driver, cuda = str(pynvml.nvmlSystemGetDriverVersion()), int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        found = tuple(_facts(pynvml, handle) for handle in _handles(pynvml, visible))
    except pynvml.NVMLError as error:
        return Gpus((), reason=f"the NVIDIA driver says: {error}")
    finally:
        pynvml.nvmlShutdown()
    hidden = f"{VISIBLE} hides them" if visible is not None else "the driver sees none"
    return Gpus(found, driver, f"{cuda // 1000}.{cuda % 1000 // 10}", "" if found else hidden)


def _handles(pynvml: Any, visible: str | None) -> Iterator[Any]:
    """In the order in which CUDA counts them with :data:`DEVICE_ORDER`."""
    count = pynvml.nvmlDeviceGetCount()
    tokens: Sequence[str] = [str(i) for i in range(count)] if visible is None else visible.split(",")
    for token in map(str.strip, tokens):
        if token.isdigit() and int(token) < count:
            yield pynvml.nvmlDeviceGetHandleByIndex(int(token))
        elif token.startswith(("GPU-", "MIG-")):
            yield pynvml.nvmlDeviceGetHandleByUUID(token)
        else:
            return  # CUDA ignores what stands behind a name that it does not know


def _facts(pynvml: Any, handle: Any) -> Gpu:
    whole = handle
    if pynvml.nvmlDeviceIsMigDeviceHandle(handle):
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(whole)
    return Gpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(whole)),
        capability=f"{major}.{minor}",
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )
