"""What each stage takes, what it returns, and the files that it leaves: all that the launching side knows of it.

The stages themselves import heavy libraries; this module does not.
"""

from __future__ import annotations

from pathlib import Path

from trtd.calibrate.table import Method
from trtd.document import Document
from trtd.engines.opening import EngineFiles
from trtd.engines.paddle.settings import PaddleSettings, PaddleTable
from trtd.engines.table import BACKENDS
from trtd.model.facts import ModelFacts, TensorFacts
from trtd.model.source import ModelSource
from trtd.pipeline.feed import Feed
from trtd.plan.shapes import Profile
from trtd.spec.calibration import PtqSection
from trtd.spec.fields import Activation
from trtd.spec.schema import EngineSection, QuantizationSection, VerifySection
from trtd.verify.report import DeviceTimes, Latency

FP32_FILE = "model.onnx"  # of convert
FOLDED_FILE = "folded.onnx"  # of convert
PRODUCED_FILE = "inference.pdmodel"  # of produce
TABLE_FILE = "calibration.json"  # of calibrate
GRAPH_FILE = "model.onnx"  # of quantize
SUMMARY_FILE = "summary.json"  # of quantize
ENGINE_FILE = "engine.json"  # of build
PADDLE_TABLES_FILE = "tables.json"  # of paddle-calibrate
PUBLISHED_FOLDER = "published"  # of paddle-build
REPORT_FILE = "report.json"  # of verify
LAYERS_FILE = "layers.json"  # of verify, where the engine ran on a GPU


# What each stage must leave, or it has failed without saying so.
STAGE_FILES: dict[str, tuple[str, ...]] = {
    "convert": (FP32_FILE, FOLDED_FILE),
    "reference": ("00000-0.npy",),
    "produce": (PRODUCED_FILE,),
    "calibrate": (TABLE_FILE,),
    "quantize": (GRAPH_FILE, SUMMARY_FILE),
    "build": (ENGINE_FILE,),
    "paddle-prepare": (SUMMARY_FILE,),
    "paddle-calibrate": (PADDLE_TABLES_FILE,),
    "paddle-build": (ENGINE_FILE,),
    "verify": (REPORT_FILE,),
    "bench": (),
}


def output_file(batch: int, output: int) -> str:
    """File of reference: output number ``output`` of held-out batch number ``batch``."""
    return f"{batch:05d}-{output}.npy"


class StageInputs(Document):
    """What a stage takes."""

    @property
    def gpus(self) -> tuple[str, ...]:
        """UUIDs of the GPUs that the stage uses, and has to itself while it runs."""
        return ()


class ConvertInputs(StageInputs):
    source: ModelSource
    facts: ModelFacts


class ConvertResult(Document):
    """Inputs and outputs of the converted graph, and how many affine nodes were folded into weights."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    folded: int


class ReferenceInputs(StageInputs):
    source: ModelSource
    facts: ModelFacts
    heldout: Feed
    threads: int


class ProduceInputs(StageInputs):
    source: ModelSource
    calibration: Feed
    batch: int
    ptq: PtqSection


class CalibrateInputs(StageInputs):
    """``calibration`` is the data to run, or ``given`` a table that somebody made already."""

    converted: Path
    target: str
    device: dict[str, str]
    activation: Activation
    calibration: Feed | None
    given: Path | None
    batch: int
    threads: int


class QuantizeInputs(StageInputs):
    converted: Path
    table: Path | None
    method: Method
    percentile: float
    target: str
    device: dict[str, str]
    precision: str
    quantization: QuantizationSection


class QuantizeSummary(Document):
    """What is to run at lower precision and what is not.

    Attributes:
        lowered: number of nodes that run in the engine's precision.
        nodes: their names, as ``[quantization] exclude`` takes them.
        kept_float: the other candidates, and why.
        tensors: tensor of the folded FP32 graph to the tensor of the graph in lower precision that carries its value.
    """

    lowered: int
    nodes: tuple[str, ...] = ()
    kept_float: dict[str, str]
    tensors: dict[str, str]


class BuildInputs(StageInputs):
    """What to compile.

    Attributes:
        graph: folder that quantize left.
        timings: kernel timings to start from, if the spec names some.
        cache: folder for what later builds can use again; ``None`` to neither use nor keep anything.
    """

    graph: Path
    target: str
    engine: EngineSection
    profiles: dict[str, Profile]
    timings: Path | None
    cache: Path | None

    @property
    def gpus(self) -> tuple[str, ...]:
        return BACKENDS[self.target].builds_on(self.engine.compute_capabilities)


class PaddleInputs(StageInputs):
    """What every stage takes that lets Paddle make something with these settings."""

    settings: PaddleSettings

    @property
    def gpus(self) -> tuple[str, ...]:
        return BACKENDS["paddle"].builds_on(()) if self.settings.gpu else ()


class PaddlePrepareInputs(PaddleInputs):
    """What becomes of a Paddle model.

    Attributes:
        mixed: convert the weights in the file to the precision of the settings.
        shapes_of: data to collect the shapes of all tensors on; ``None`` to collect none.
        profiles: smallest and largest shapes of the inputs, which are among those collected.
    """

    source: ModelSource
    facts: ModelFacts
    mixed: bool
    shapes_of: Feed | None
    profiles: dict[str, Profile]
    batch: int


class PaddleCalibrateInputs(PaddleInputs):
    prepared: Path
    model_digest: str
    calibration: Feed
    batch: int


class PaddleTables(Document):
    """What calibration by TensorRT left: the tables, and what they are of.

    Attributes:
        model_digest: of model and parameters.
        set_digest: of the calibration set.
        samples: how many items it has.
        settings: what Paddle was told, with the versions of Paddle and TensorRT that did it.
    """

    model_digest: str
    set_digest: str
    samples: int
    settings: PaddleSettings
    tables: tuple[PaddleTable, ...]


class PaddleBuildInputs(PaddleInputs):
    """``tables``: folder that paddle-calibrate left; ``None`` without calibration."""

    prepared: Path
    tables: Path | None
    target: str
    profiles: dict[str, Profile]
    heldout: Feed
    batch: int


class VerifyInputs(StageInputs):
    """What the engine is judged by.

    Attributes:
        converted: folder that convert left.
        graph: folder that quantize left; what the engine was built from, or is.
        engine: the engine; ``None`` if it cannot run here, so that its graph is judged in its place.
        baselines: engines of other precisions for the same target, to hold it against; ``fp32`` always.
        unverifiable: why the engine cannot run here.
        engine_bytes: size of the engine's files.
        tf32: the target computes FP32 as TF32.
        kernels: folder for what a backend compiles when it loads an engine.
    """

    name: str
    target: str
    precision: str
    converted: Path
    graph: Path
    summary: Path
    engine: EngineFiles | None
    baselines: dict[str, EngineFiles]
    unverifiable: str
    engine_bytes: int
    tf32: bool
    kernels: Path
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

    @property
    def gpus(self) -> tuple[str, ...]:
        return () if self.engine is None else self.engine.gpus


class BenchInputs(StageInputs):
    engine: EngineFiles
    baseline: EngineFiles
    kernels: Path
    heldout: Feed
    batch: int
    runs: int
    threads: int

    @property
    def gpus(self) -> tuple[str, ...]:
        return self.engine.gpus


class Timed(Document):
    """Latency of an engine and of FP32, side by side: from host to host, and on the GPU alone where there is one."""

    engine: Latency
    fp32: Latency
    device_times: DeviceTimes | None = None

    @property
    def speedup(self) -> float:
        """FP32 p50 over engine p50, on the GPU alone where there is one."""
        times = self.device_times or self
        return times.fp32.p50_ms / times.engine.p50_ms
