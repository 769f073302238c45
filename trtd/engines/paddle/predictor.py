"""A Paddle predictor with named inputs and outputs, and the module that makes it."""

from __future__ import annotations

import gc
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from trtd.engines.feeds import check_feeds
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory
from trtd.model.facts import TensorFacts

# Of Paddle 2.6.2 and 3.3.1: what stands in a message, what it means, and what helps.
MISSING: dict[str, tuple[tuple[str, ...], str]] = {
    "Paddle finds no GPU": (
        ("Device id must be less than GPU count", "no CUDA-capable device", "CUDA driver version is insufficient"),
        "nvidia-smi shows what there is, and how new the driver is",
    ),
    "Paddle finds no TensorRT": (
        ("TensorRT dynamic library",),
        "install the TensorRT that this Paddle was built with (trtd doctor names it), and put the folder of an "
        "unversioned libnvinfer.so into LD_LIBRARY_PATH",
    ),
    "Paddle finds no cuDNN": (
        ("Cannot load cudnn shared library",),
        "install the cuDNN that this Paddle was built with (paddle.version.show() names it), and put the folder of "
        "an unversioned libcudnn.so into LD_LIBRARY_PATH",
    ),
}
# Where a PIR program's TensorRT engines are, if not where they were made. Paddle sets it for the first predictor of a
# process alone: another one would get the first one's engines. Source: Paddle 3, tensorrt_engine_instruction.cc.
ENGINES_FLAG = "FLAGS_trt_engine_serialized_path"
MEMORY = ("Out of memory error", "ResourceExhausted", "CUDA error(2)")

_KIND = re.compile(r"\(\w+\) |\w+Error: ")


def paddle_inference(where: str = "") -> Any:
    """The module ``paddle.inference``. Raises ``EnvironmentMissing`` if Paddle is not installed, or lacks a package."""
    try:
        import paddle.inference as found
    except ImportError as error:
        if error.name != "paddle":
            hint = "pip install what is named: Paddle imports setuptools, for one, and does not declare it"
            raise EnvironmentMissing(f"Paddle cannot be imported: {error}", hint=hint, where=where) from error
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
        engines: folder of the TensorRT engines of a PIR program; ``None`` if it has none.

    Raises:
        EnvironmentMissing: there is no GPU, or TensorRT's libraries are missing.
        EngineError: Paddle cannot load the model.
    """

    def __init__(
        self, module: Any, config: Any, inputs: tuple[TensorFacts, ...], where: str, *, engines: Path | None = None
    ) -> None:
        refuse_unreadable(config.prog_file(), importlib.import_module("paddle").__version__)
        self._engines = engines
        self._find_engines()
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
        self._find_engines()
        try:
            for name, array in feeds.items():
                handle = self._predictor.get_input_handle(name)
                handle.reshape(list(array.shape))
                handle.copy_from_cpu(np.ascontiguousarray(array))
            self._predictor.run()
            self._engines = None  # the first run has read them
            return {name: self._predictor.get_output_handle(name).copy_to_cpu() for name in self._output_names}
        except Exception as error:
            if any(mark in str(error) for mark in MEMORY):
                raise WorkerOutOfMemory(f"the GPU has no memory left: {gist(error)}", hint="free it") from error
            raise EngineError(f"Paddle failed: {gist(error)}") from error

    def _find_engines(self) -> None:
        if self._engines is not None:
            importlib.import_module("paddle").set_flags({ENGINES_FLAG: str(self._engines)})

    def close(self) -> None:
        """Drop the predictor. Its destructor writes what Paddle writes at the end, and may take long."""
        del self._predictor
        gc.collect()


def refuse_unreadable(model_file: str, version: str) -> None:
    """Raise ``EngineError`` for a PIR program under a Paddle that ends with SIGSEGV in the place of an exception."""
    if model_file.endswith(".json") and version.startswith(("1.", "2.")):
        raise EngineError(
            f"Paddle {version} cannot read a PIR program (.json)",
            where=model_file,
            hint="install Paddle 3, or export the model as .pdmodel there: FLAGS_enable_pir_api=0",
        )


def load_error(error: Exception, where: str) -> TrtdError:
    """Why Paddle made no predictor."""
    text, said = str(error), gist(error)
    for what, (marks, hint) in MISSING.items():
        if any(mark in text for mark in marks):
            return EnvironmentMissing(f"{what}: {said}", hint=hint, where=where)
    if any(mark in text for mark in MEMORY):
        return WorkerOutOfMemory(f"the GPU has no memory left: {said}", hint="free it", where=where)
    return EngineError(
        f"Paddle cannot load it: {said}",
        where=where,
        hint="was it exported by a newer Paddle, or do model and params belong to different exports?",
    )


def gist(error: Exception) -> str:
    """The line of a Paddle exception that says what happened: ``(Kind) text``, between a trace and a hint in C++."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if _KIND.match(line)), lines[-1] if lines else type(error).__name__)
