"""What each stage takes, what it returns, and the files that it leaves: all that the launching side knows of it.

The stages themselves import heavy libraries; this module does not.
"""

from __future__ import annotations

from pathlib import Path

from trtd.calibrate.table import Method
from trtd.document import Document
from trtd.model.facts import ModelFacts, TensorFacts
from trtd.model.source import ModelSource
from trtd.pipeline.feed import Feed
from trtd.spec.fields import Activation
from trtd.spec.schema import QuantizationSection, VerifySection
from trtd.verify.report import Latency

FP32_FILE = "model.onnx"  # of convert
FOLDED_FILE = "folded.onnx"  # of convert
TABLE_FILE = "calibration.json"  # of calibrate
ENGINE_FILE = "model.onnx"  # of build
SUMMARY_FILE = "summary.json"  # of build
REPORT_FILE = "report.json"  # of verify


# What each stage must leave, or it has failed without saying so.
STAGE_FILES: dict[str, tuple[str, ...]] = {
    "convert": (FP32_FILE, FOLDED_FILE),
    "reference": ("00000-0.npy",),
    "calibrate": (TABLE_FILE,),
    "build": (ENGINE_FILE, SUMMARY_FILE),
    "verify": (REPORT_FILE,),
    "bench": (),
}


def output_file(batch: int, output: int) -> str:
    """File of reference: output number ``output`` of held-out batch number ``batch``."""
    return f"{batch:05d}-{output}.npy"


class ConvertInputs(Document):
    source: ModelSource
    facts: ModelFacts


class ConvertResult(Document):
    """Inputs and outputs of the converted graph, and how many affine nodes were folded into weights."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    folded: int


class ReferenceInputs(Document):
    source: ModelSource
    facts: ModelFacts
    heldout: Feed
    threads: int


class CalibrateInputs(Document):
    converted: Path
    target: str
    activation: Activation
    calibration: Feed
    batch: int
    threads: int


class BuildInputs(Document):
    converted: Path
    table: Path | None
    method: Method
    percentile: float
    target: str
    precision: str
    quantization: QuantizationSection


class BuildSummary(Document):
    """What runs at lower precision and what does not.

    Attributes:
        lowered: number of nodes that run in the engine's precision.
        nodes: their names, as ``[quantization] exclude`` takes them.
        kept_float: the other candidates, and why.
        tensors: tensor of the folded FP32 graph to the tensor of the engine that carries its value.
    """

    lowered: int
    nodes: tuple[str, ...] = ()
    kept_float: dict[str, str]
    tensors: dict[str, str]


class VerifyInputs(Document):
    name: str
    target: str
    precision: str
    converted: Path
    engine: Path
    summary: Path
    reference: Path
    reference_name: str
    outputs: int
    heldout: Feed
    batch: int
    verify: VerifySection
    labels: Path | None
    spec_folder: Path
    threads: int
    tools: dict[str, str]
    notes: tuple[str, ...]
    hooks_allowed: bool | None = None


class BenchInputs(Document):
    converted: Path
    engine: Path
    heldout: Feed
    batch: int
    runs: int
    threads: int


class Timed(Document):
    """Latency of an engine and of FP32, side by side."""

    engine: Latency
    fp32: Latency

    @property
    def speedup(self) -> float:
        """FP32 p50 over engine p50."""
        return self.fp32.p50_ms / self.engine.p50_ms
