"""A stand-in for cuda-python's runtime bindings: device memory is host memory, a stream runs what it gets at once.

``STAND_IN_GPU_FAULT`` may say ``no-memory`` (nothing can be allocated), ``no-pinned`` (no pinned memory), ``lost``
(nothing answers any more) or ``no-capture`` (the work cannot be recorded as a graph).
``STAND_IN_GPU_EXCLUSIVE`` names a folder by which processes see each other: then a GPU is one process's at a time, as
``nvidia-smi --compute-mode=EXCLUSIVE_PROCESS`` makes a real one.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorDevicesUnavailable = 46
    cudaErrorNoDevice = 100
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


cudaStreamNonBlocking = 1
CAPACITY = 8 * 2**30

_handles = itertools.count(1)
_memory: dict[int, Any] = {}
_captures: dict[int, list[Callable[[], None]]] = {}
_graphs: dict[int, list[Callable[[], None]]] = {}
_events: dict[int, float] = {}
_taken: dict[int, int] = {}
current = 0
"""The GPU that this process has chosen."""
launches = 0
"""How many graphs were launched in this process."""


def _fault(kind: str) -> bool:
    return kind in os.environ.get("STAND_IN_GPU_FAULT", "")


def _answer(*values: Any) -> tuple[Any, ...]:
    return (cudaError_t.cudaErrorLaunchFailure if _fault("lost") else cudaError_t.cudaSuccess, *values)


def cudaGetDeviceCount() -> tuple[Any, ...]:
    return _answer(len([c for c in os.environ.get("STAND_IN_GPUS", "").split(",") if c]))


def cudaSetDevice(ordinal: int) -> tuple[Any, ...]:
    global current
    current = ordinal
    folder = os.environ.get("STAND_IN_GPU_EXCLUSIVE")
    if folder and ordinal not in _taken:
        _taken[ordinal] = os.open(f"{folder}/{ordinal}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(_taken[ordinal], fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        except BlockingIOError:
            return (cudaError_t.cudaErrorDevicesUnavailable,)
    return _answer()


def cudaMemGetInfo() -> tuple[Any, ...]:
    return _answer(CAPACITY - sum(len(block) for block in _memory.values()), CAPACITY)


def cudaMalloc(nbytes: int) -> tuple[Any, ...]:
    if _fault("no-memory"):
        return cudaError_t.cudaErrorMemoryAllocation, 0
    block = ctypes.create_string_buffer(nbytes)
    _memory[ctypes.addressof(block)] = block
    return _answer(ctypes.addressof(block))


def cudaHostAlloc(nbytes: int, flags: int) -> tuple[Any, ...]:
    if _fault("no-pinned"):
        return cudaError_t.cudaErrorMemoryAllocation, 0
    return cudaMalloc(nbytes)


def cudaFree(address: int) -> tuple[Any, ...]:
    del _memory[address]
    return _answer()


def cudaFreeHost(address: int) -> tuple[Any, ...]:
    return cudaFree(address)


def cudaMemcpyAsync(to: int, source: int, nbytes: int, kind: Any, stream: int) -> tuple[Any, ...]:
    enqueue(stream, lambda: ctypes.memmove(to, source, nbytes))
    return _answer()


def cudaStreamCreateWithFlags(flags: int) -> tuple[Any, ...]:
    return _answer(next(_handles))


def cudaStreamDestroy(stream: int) -> tuple[Any, ...]:
    return _answer()


def cudaStreamSynchronize(stream: int) -> tuple[Any, ...]:
    return _answer()


def cudaStreamBeginCapture(stream: int, mode: Any) -> tuple[Any, ...]:
    _captures[stream] = []
    return _answer()


def cudaStreamEndCapture(stream: int) -> tuple[Any, ...]:
    if _fault("no-capture"):
        _captures.pop(stream)
        return cudaError_t.cudaErrorStreamCaptureUnsupported, 0
    graph = next(_handles)
    _graphs[graph] = _captures.pop(stream)
    return _answer(graph)


def cudaGetLastError() -> tuple[Any, ...]:
    return _answer()


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[Any, ...]:
    instance = next(_handles)
    _graphs[instance] = _graphs[graph]
    return _answer(instance)


def cudaGraphDestroy(graph: int) -> tuple[Any, ...]:
    return _answer()


def cudaGraphExecDestroy(instance: int) -> tuple[Any, ...]:
    del _graphs[instance]
    return _answer()


def cudaGraphLaunch(instance: int, stream: int) -> tuple[Any, ...]:
    global launches
    launches += 1
    for work in _graphs[instance]:
        work()
    return _answer()


def cudaEventCreate() -> tuple[Any, ...]:
    return _answer(next(_handles))


def cudaEventRecord(event: int, stream: int) -> tuple[Any, ...]:
    _events[event] = time.perf_counter()
    return _answer()


def cudaEventSynchronize(event: int) -> tuple[Any, ...]:
    return _answer()


def cudaEventElapsedTime(start: int, end: int) -> tuple[Any, ...]:
    return _answer((_events[end] - _events[start]) * 1e3)


def cudaEventDestroy(event: int) -> tuple[Any, ...]:
    _events.pop(event, None)
    return _answer()


def enqueue(stream: int, work: Callable[[], Any]) -> None:
    """Do it, or record it if the stream is being captured."""
    if stream in _captures:
        _captures[stream].append(work)
    else:
        work()
