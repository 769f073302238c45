"""TensorRT-RTX compiles kernels for the GPU when an engine is loaded; what was compiled is kept in a file.

Kernels for the very shapes of a run are compiled before its first run (``EAGER``): a CUDA graph that was recorded
earlier would replay the slower ones for ever. Measured: ``benchmarks/results/h200.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.tensorrt.timing import replace_file


class KernelCache:
    """The runtime configuration of an engine, with the kernels of earlier loads.

    Attributes:
        config: for ``create_execution_context``.
    """

    def __init__(self, trt: Any, engine: Any, path: Path | None) -> None:
        self.config = engine.create_runtime_config()
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self.config.dynamic_shapes_kernel_specialization_strategy = eager
        # Memory that TensorRT-RTX allocates itself keeps a stream from being recorded as a CUDA graph.
        self.config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._cache = self.config.create_runtime_cache()
        self._path = path
        if path is not None and path.is_file():
            self._cache.deserialize(path.read_bytes())  # of another version or GPU: it stays empty
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Keep what was compiled."""
        if self._path is not None:
            replace_file(self._path, bytes(self._cache.serialize()))
