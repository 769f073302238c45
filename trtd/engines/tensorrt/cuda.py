"""Memory, streams, events and graphs of one GPU, through NVIDIA's ``cuda-bindings`` (cuda-python).

Pinned host memory makes copies asynchronous; a captured graph launches all kernels of a model at once (CUDA C++
Programming Guide, "CUDA Graphs").
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtd.engines.gpu import DEVICE_ORDER, Gpu, gpus
from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory

Array = np.ndarray[Any, Any]
ALIGNMENT_BYTES = 256

_NO_MEMORY = 2
_NO_DEVICE = (35, 100, 101, 46)
_NOT_RECORDED = range(900, 909)  # cudaErrorStreamCapture…
_LOST = (4, 79, 214, 220, 700, 702, 709, 717, 718, 719, 802, 805, 999)


def runtime() -> Any:
    """The module ``cuda.bindings.runtime``; raises ``EnvironmentMissing`` if it is not installed."""
    for key, value in DEVICE_ORDER.items():
        os.environ.setdefault(key, value)  # in a process of ours it is there; somebody else's may have its reasons
    try:
        from cuda.bindings import runtime as found
    except ImportError as error:
        raise EnvironmentMissing(
            f"cuda-python is not installed, or its libraries cannot be loaded: {error}",
            hint="pip install 'trtd[rtx]', or cuda-bindings of the driver's CUDA version",
        ) from error
    return found


def check(result: tuple[Any, ...]) -> Any:
    """The values of a call, without its status. Raises the error that the status stands for."""
    status, *values = result
    if int(status):
        raise cuda_error(int(status), getattr(status, "name", str(status)))
    return values[0] if len(values) == 1 else tuple(values)


def cuda_error(code: int, name: str) -> TrtdError:
    """A status of the CUDA runtime as an error of trtd's."""
    if code == _NO_MEMORY:
        return WorkerOutOfMemory(
            "the GPU has no memory left", hint="free it (nvidia-smi shows who has it), or feed a smaller batch or shape"
        )
    if code in _NO_DEVICE:
        return EnvironmentMissing(f"there is no GPU that CUDA can use: {name}", hint="nvidia-smi shows what there is")
    if code in _LOST:
        return EnvironmentMissing(
            f"the GPU does not answer any more: {name}",
            hint="dmesg | grep -i xid tells why; a GPU that fell off the bus needs a restart of the machine",
        )
    return EngineError(f"CUDA failed: {name}", hint="the build log may say more; nvidia-smi shows the state of the GPU")


def take_device(capabilities: Sequence[str]) -> Gpu:
    """Make the first visible GPU of one of these compute capabilities, of any for none, this process's.

    Raises:
        EnvironmentMissing: there is no GPU.
        EngineError: none of the GPUs has such a capability.
    """
    known = gpus()
    if not known.found:
        raise EnvironmentMissing(f"there is no GPU: {known.reason}", hint="run it where an NVIDIA GPU is")
    for ordinal, gpu in enumerate(known.found):
        if not capabilities or gpu.capability in capabilities:
            check(runtime().cudaSetDevice(ordinal))
            return gpu
    here = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in known.found)
    raise EngineError(
        f"the engine is for compute capability {' or '.join(capabilities)}, and here is {here}",
        hint="add this GPU's capability to [engine] compute_capabilities and build again",
    )


def free_bytes() -> int:
    """Memory of the GPU that nobody has taken."""
    return int(check(runtime().cudaMemGetInfo())[0])


class Scratch:
    """Device memory for what a run keeps between two layers."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(nbytes, ALIGNMENT_BYTES)
        self.address = int(check(runtime().cudaMalloc(self.nbytes)))

    def free(self) -> None:
        runtime().cudaFree(self.address)


class Buffer:
    """One tensor, on the device and in pinned host memory.

    Attributes:
        host: the array in pinned memory; what is copied to and from the device.
        address: on the device.
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.nbytes = math.prod(shape) * dtype.itemsize
        allocated = max(self.nbytes, ALIGNMENT_BYTES)  # TensorRT wants an address even of what is empty
        self.address = int(check(runtime().cudaMalloc(allocated)))
        try:
            self._pinned = int(check(runtime().cudaHostAlloc(allocated, 0)))
        except TrtdError:
            runtime().cudaFree(self.address)
            raise
        memory = (ctypes.c_byte * self.nbytes).from_address(self._pinned)
        self.host: Array = np.frombuffer(memoryview(memory), dtype=dtype, count=math.prod(shape)).reshape(shape)

    def upload(self, stream: Any) -> None:
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        check(runtime().cudaMemcpyAsync(self.address, self._pinned, self.nbytes, kind, stream))

    def download(self, stream: Any) -> None:
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(runtime().cudaMemcpyAsync(self._pinned, self.address, self.nbytes, kind, stream))

    def free(self) -> None:
        runtime().cudaFree(self.address)
        runtime().cudaFreeHost(self._pinned)


class Stream:
    """A CUDA stream that waits for no other."""

    def __init__(self) -> None:
        self.handle = check(runtime().cudaStreamCreateWithFlags(runtime().cudaStreamNonBlocking))

    def wait(self) -> None:
        check(runtime().cudaStreamSynchronize(self.handle))

    def capture(self, work: Callable[[], None]) -> Graph | None:
        """Record what ``work`` gives the stream to do, without doing it; ``None`` if it cannot be recorded.

        ``work`` may fail for that alone, with whatever error: done without recording, it shows what it is worth.
        """
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(runtime().cudaStreamBeginCapture(self.handle, mode))
        failed = False
        try:
            work()
        except TrtdError:
            failed = True
        status, graph = runtime().cudaStreamEndCapture(self.handle)
        if int(status) in _NOT_RECORDED:
            runtime().cudaGetLastError()  # or the next call that looks for an error finds this one
            return None
        check((status,))
        if failed:
            runtime().cudaGraphDestroy(graph)
            return None
        return Graph(graph)

    def time_ms(self, work: Callable[[], None]) -> float:
        """Device time of ``work``, from event to event."""
        start, end = (check(runtime().cudaEventCreate()) for _ in range(2))
        try:
            check(runtime().cudaEventRecord(start, self.handle))
            work()
            check(runtime().cudaEventRecord(end, self.handle))
            check(runtime().cudaEventSynchronize(end))
            return float(check(runtime().cudaEventElapsedTime(start, end)))
        finally:
            runtime().cudaEventDestroy(start)
            runtime().cudaEventDestroy(end)

    def close(self) -> None:
        runtime().cudaStreamDestroy(self.handle)


class Graph:
    """A captured graph, ready to be launched."""

    def __init__(self, graph: Any) -> None:
        self._instance = check(runtime().cudaGraphInstantiate(graph, 0))
        runtime().cudaGraphDestroy(graph)

    def launch(self, stream: Stream) -> None:
        check(runtime().cudaGraphLaunch(self._instance, stream.handle))

    def free(self) -> None:
        runtime().cudaGraphExecDestroy(self._instance)
