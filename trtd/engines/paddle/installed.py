"""Which Paddle is installed, for what it was built, and which TensorRT it was compiled with and finds."""

from __future__ import annotations

import importlib
from typing import Any

from trtd.document import Document
from trtd.engines.paddle.predictor import gist


class InstalledPaddle(Document):
    """What Paddle says of itself.

    Attributes:
        gpu: it was built with GPUs; whether there is one is another question.
        tensorrt: that it was compiled with, ``8.5.3``; empty for none.
        tensorrt_found: that it loads here; empty for none.
        tensorrt_missing: why it loads none although it was compiled with one; empty if nothing is missing.
    """

    version: str
    gpu: bool
    tensorrt: str
    tensorrt_found: str
    tensorrt_missing: str

    @property
    def words(self) -> str:
        """For people: ``2.6.2, built with GPUs and TensorRT 8.5.3; finds TensorRT 8.5.3``."""
        if not self.gpu:
            return f"{self.version}, built for CPUs"
        if not self.tensorrt:
            return f"{self.version}, built with GPUs, without TensorRT"
        found = f"TensorRT {self.tensorrt_found}" if self.tensorrt_found else f"none: {self.tensorrt_missing}"
        return f"{self.version}, built with GPUs and TensorRT {self.tensorrt}; finds {found}"


def installed_paddle(module: Any) -> InstalledPaddle:
    """Ask Paddle. It loads TensorRT's library, if it was compiled with one.

    Args:
        module: ``paddle.inference``.
    """
    paddle = importlib.import_module("paddle")
    compiled, found, missing = _text(module.get_trt_compile_version()), "", ""
    if compiled:
        try:
            found = _text(module.get_trt_runtime_version())
        except RuntimeError as error:
            missing = gist(error)
    return InstalledPaddle(
        version=str(paddle.__version__),
        gpu=bool(paddle.is_compiled_with_cuda()),
        tensorrt=compiled,
        tensorrt_found=found,
        tensorrt_missing=missing,
    )


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version)) if any(version) else ""
