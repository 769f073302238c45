"""A stand-in for nvidia-ml-py: the GPUs that ``STAND_IN_GPUS`` names by compute capability, ``8.9,9.0``."""

from __future__ import annotations

import os
from dataclasses import dataclass

NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_GPU_IS_LOST = 15


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__({12: "NVML Shared Library Not Found", 15: "GPU is lost"}.get(value, f"error {value}"))
        self.value = value


@dataclass
class Memory:
    total: int = 24 * 2**30


def _capabilities() -> list[str]:
    return [c for c in os.environ.get("STAND_IN_GPUS", "").split(",") if c]


def nvmlInit() -> None:
    if not _capabilities():
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND)


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "580.00.00"


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    return 13000


def nvmlDeviceGetCount() -> int:
    return len(_capabilities())


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    if "lost" in os.environ.get("STAND_IN_GPU_FAULT", ""):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    return int(uuid.rpartition("-")[2])


def nvmlDeviceIsMigDeviceHandle(handle: int) -> bool:
    return False


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    major, minor = _capabilities()[handle].split(".")
    return int(major), int(minor)


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-stand-in-{handle}"


def nvmlDeviceGetName(handle: int) -> str:
    return f"Stand-in GPU {handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> Memory:
    return Memory()
