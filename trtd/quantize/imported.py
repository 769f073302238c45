"""The record of a quantized Paddle model: which tensors of the converted graph are rounded, and with which scales."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from trtd.document import Document
from trtd.errors import QuantizationError

QUANTIZATION_FILE = "quantization.json"


class RoundedTensor(Document):
    """One activation that Paddle rounds.

    Attributes:
        tensor: its name in the folded graph, before it is rounded.
        rounded: name of the Identity's output that the readers of the rounded value read.
        amax: largest magnitude that is kept; the scale is ``amax / 127``, the zero point 0.
        parameter: of the Paddle model, that holds ``amax``.
    """

    tensor: str
    rounded: str
    amax: float
    parameter: str


class ObservedTensor(Document):
    """One activation whose range Paddle recorded for deployment, without rounding it in its own run."""

    tensor: str
    amax: float
    parameter: str


class RoundedWeight(Document):
    """One weight. In the folded graph it is float, an exact multiple of its scales up to float32 rounding.

    Attributes:
        tensor: name of the initializer.
        axis: of the channels; -1 for one scale.
        amax: one, or one for each channel, after folding; the scale is ``amax / 127``.
        parameter: of the Paddle model, that holds the weight.
    """

    tensor: str
    axis: int
    amax: tuple[float, ...]
    parameter: str


class ImportedQuantization(Document):
    """One file, ``quantization.json``, beside the folded graph.

    Attributes:
        schema_version: of this format.
        source_digest: of the Paddle model that all of this comes from.
        bits: of every rounding.
        ties_away: whether Paddle rounds halves away from zero somewhere, where ONNX rounds them to even.
        activations, observed, weights: what the names say.
    """

    schema_version: Literal[1] = 1
    source_digest: str
    bits: Literal[8] = 8
    ties_away: bool
    activations: tuple[RoundedTensor, ...]
    observed: tuple[ObservedTensor, ...]
    weights: tuple[RoundedWeight, ...]


def write_quantization(quantization: ImportedQuantization, path: Path) -> None:
    path.write_text(quantization.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_quantization(path: Path) -> ImportedQuantization:
    """Read what :func:`write_quantization` wrote. Raises ``QuantizationError`` if it is missing, torn or another."""
    try:
        return ImportedQuantization.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise QuantizationError(
            f"the imported scales cannot be read: {reason}", hint="convert the model again", where=str(path)
        ) from error
