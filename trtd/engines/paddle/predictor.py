"""A Paddle predictor with named inputs and outputs, and the module that makes it."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np

from trtd.engines.feeds import check_feeds
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory
from trtd.model.facts import TensorFacts

_LIBRARY = ("libnvinfer", "library is not found", "TensorRT dynamic library")
_NO_GPU = ("Device id must be less than GPU count", "CUDA error(100)", "no CUDA-capable device")
_MEMORY = ("Out of memory error", "ResourceExhausted", "CUDA error(2)")


def paddle_inference(where: str = "") -> Any:
    """The module ``paddle.inference``. Raises ``EnvironmentMissing`` if Paddle is not installed."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    try:
        import paddle.inference as found
    except ImportError as error:
        raise EnvironmentMissing(
            "paddlepaddle is not installed, and the source is a Paddle model",
            hint="pip install 'trtd[cpu]', or paddlepaddle-gpu on a machine with a GPU",
            where=where,
        ) from error
    return found


class PaddleRunner:
    """A predictor.

    Outputs have the names that Paddle gives to fetched variables. The converted model may call them otherwise: what
    the two have in common is the order. Dtypes and shapes of outputs are known only after a run.

    Args:
        module: ``paddle.inference``.
        config: of that module's, used up: a second predictor of the same one is refused by Paddle.
        where: of the model, for messages.

    Raises:
        EnvironmentMissing: there is no GPU, or TensorRT's libraries are missing.
        EngineError: Paddle cannot load the model.
    """

    def __init__(self, module: Any, config: Any, inputs: tuple[TensorFacts, ...], where: str) -> None:
        try:
            self._predictor = module.create_predictor(config)
        except Exception as error:
            raise load_error(error, where) from error
        self._inputs = inputs
        self._output_names = list(self._predictor.get_output_names())

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return tuple(TensorFacts(name=n, dtype="float32", shape=()) for n in self._output_names)

    def run(self, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        check_feeds(self._inputs, feeds)
        try:
            for name, array in feeds.items():
                handle = self._predictor.get_input_handle(name)
                handle.reshape(list(array.shape))
                handle.copy_from_cpu(np.ascontiguousarray(array))
            self._predictor.run()
            return {name: self._predictor.get_output_handle(name).copy_to_cpu() for name in self._output_names}
        except Exception as error:
            if any(mark in str(error) for mark in _MEMORY):
                raise WorkerOutOfMemory(f"the GPU has no memory left: {last_line(error)}", hint="free it") from error
            raise EngineError(f"Paddle failed: {last_line(error)}") from error

    def close(self) -> None:
        """Drop the predictor. Its destructor writes what Paddle writes at the end, and may take long."""
        del self._predictor
        gc.collect()


def load_error(error: Exception, where: str) -> TrtdError:
    """Why Paddle made no predictor."""
    text, last = str(error), last_line(error)
    if any(mark in text for mark in _NO_GPU):
        return EnvironmentMissing(f"Paddle finds no GPU: {last}", hint="nvidia-smi shows what there is", where=where)
    if any(mark in text for mark in _LIBRARY):
        return EnvironmentMissing(
            f"Paddle finds no TensorRT: {last}",
            hint="install the TensorRT that this Paddle was built with (trtd doctor names it), and put the folder of "
            "an unversioned libnvinfer.so into LD_LIBRARY_PATH",
            where=where,
        )
    if any(mark in text for mark in _MEMORY):
        return WorkerOutOfMemory(f"the GPU has no memory left: {last}", hint="free it", where=where)
    return EngineError(
        f"Paddle cannot load it: {last}",
        where=where,
        hint="was it exported by a newer Paddle, or do model and params belong to different exports?",
    )


def last_line(error: Exception) -> str:
    """What a Paddle exception comes down to: it is the last line of many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
