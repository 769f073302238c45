"""What can be known of a source model without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trtd.document import Document

ModelFormat = Literal["paddle-pir", "paddle-program", "onnx"]


class TensorFacts(Document):
    """Name, numpy dtype name and shape of one model input or output; ``None`` marks an open dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class ModelFacts(Document):
    """Facts of one source model.

    Attributes:
        format: how the model is stored.
        files: every file that belongs to the model, the program first; all enter the digest.
        inputs: in the model's own order.
        outputs: in the model's own order.
        ops: how often each operator type occurs.
        opset: version of the default ONNX domain; ``None`` for Paddle models.
        digest: ``sha256:…`` over size and bytes of each of ``files``, in order.
        quantized: whether the model already holds quantize/dequantize or fake-quantize operators.
    """

    format: ModelFormat
    files: tuple[Path, ...]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    ops: dict[str, int]
    opset: int | None
    digest: str
    quantized: bool
