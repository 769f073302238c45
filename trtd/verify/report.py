"""The report: how faithful and how fast an engine is, and which gates it passed."""

from __future__ import annotations

from typing import Literal

from trtd.document import Document


class Fidelity(Document):
    """How one output of a candidate compares with the reference, over all held-out items.

    Attributes:
        elements: values compared; 0 means that nothing was compared, which no gate lets pass.
        cosine: smallest cosine similarity of any item, 1 is perfect.
        sqnr_db: signal-to-quantization-noise ratio in dB, over all items together; infinite if identical.
        relative_l2: ``||candidate - reference|| / ||reference||``, over all items together.
        max_abs_error: largest absolute difference of any value.
        top1_agreement: share of rows whose largest value is in the same place; ``None`` if the output is not of shape
            (items, classes).
        probabilities: every row of the reference is a distribution, so that the output holds class scores for certain.
    """

    elements: int
    cosine: float
    sqnr_db: float
    relative_l2: float
    max_abs_error: float
    top1_agreement: float | None = None
    probabilities: bool = False


class Latency(Document):
    """Wall-clock latency of single runs, in milliseconds, and throughput in items per second."""

    runs: int
    batch: int
    p50_ms: float
    p99_ms: float
    mean_ms: float
    items_per_s: float
    samples_ms: tuple[float, ...]


class Gate(Document):
    """One condition on publishing, its bound and what was measured.

    Attributes:
        name: of a field of the spec's ``[verify.gates]``, e.g. ``cosine`` or ``min_speedup``.
        output: the model output it was measured on; empty for gates on the whole engine.
        comparison: ``>=`` or ``<=``: measured must stand on this side of the bound.
    """

    name: str
    output: str
    comparison: Literal[">=", "<="]
    bound: float
    measured: float
    passed: bool
    advice: str = ""


class TensorError(Document):
    """How far one inner tensor of the engine is from the FP32 graph's, errors upstream included."""

    tensor: str
    node: str
    op: str
    sqnr_db: float


class OutputErrors(Document):
    """Histogram of ``candidate - reference`` over one output: ``counts[i]`` lies in ``[edges[i], edges[i+1])``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class TaskMetric(Document):
    """A metric against labels: the engine's and the FP32 reference's value, both as shares (0..1)."""

    name: str
    engine: float
    reference: float


class DeviceTimes(Document):
    """Runs on a GPU alone, from CUDA event to CUDA event, inputs lying there already.

    Attributes:
        gpu: its name and compute capability.
        engine, fp32, fp16: as in :class:`Report`.
        memory_bytes: device memory that each took, by the same names.
    """

    gpu: str
    engine: Latency
    fp32: Latency
    fp16: Latency | None = None
    memory_bytes: dict[str, int]


class Repeat(Document):
    """One more build of the same plan, judged like the first."""

    cosine: float
    relative_l2: float
    p50_ms: float | None
    passed: bool


class Report(Document):
    """Everything that verification measured.

    Attributes:
        name: of the engine in the registry.
        target: backend.
        precision: of the engine.
        proof: ``verified`` if it ran on its target, else ``emulated``: its graph ran in ONNX Runtime on the CPU.
        reference: what judged it, e.g. ``paddle 3.3.1 fp32``.
        items: held-out items that were run.
        fidelity: per output, engine against reference.
        conversion: per output, FP32 on the same target against reference: what the precision is not to blame for.
        engine_latency, fp32_latency, fp16_latency: from host memory to host memory, side by side, interleaved, in one
            process; ``None`` where nothing ran on the target, or there is no FP16 engine to compare with.
        device_times: the same on the GPU alone; ``None`` on a CPU.
        speedup: fp32 p50 over engine p50, on the GPU alone where there is one; ``None`` if nothing was timed.
        speedup_over_fp16: the same over FP16.
        engine_bytes, fp32_bytes: size of the model files.
        gates: all of them, passed and missed.
        worst_tensors: inner tensors with the largest error first; empty for fp32.
        output_errors: per output.
        repeats: what further builds of the same plan came to, where the spec asks for them.
        metric: if the spec asks for one.
        notes: what a reader must know, e.g. that few items were given.
        tools: versions of everything that took part.
    """

    schema_version: Literal[1] = 1
    name: str
    target: str
    precision: str
    proof: Literal["verified", "emulated"]
    reference: str
    items: int
    fidelity: dict[str, Fidelity]
    conversion: dict[str, Fidelity]
    engine_latency: Latency | None
    fp32_latency: Latency | None
    fp16_latency: Latency | None = None
    device_times: DeviceTimes | None = None
    speedup: float | None
    speedup_over_fp16: float | None = None
    engine_bytes: int
    fp32_bytes: int
    gates: tuple[Gate, ...]
    worst_tensors: tuple[TensorError, ...]
    output_errors: dict[str, OutputErrors]
    repeats: tuple[Repeat, ...] = ()
    metric: TaskMetric | None
    notes: tuple[str, ...]
    tools: dict[str, str]

    @property
    def passed(self) -> bool:
        """True if there is at least one gate and every gate passed."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def p50_change_ms(self) -> tuple[float, float] | None:
        """Median of FP32 and of the engine, as ``speedup`` compares them; ``None`` if nothing was timed."""
        engine, fp32 = self.engine_latency, self.fp32_latency
        if self.device_times is not None:
            engine, fp32 = self.device_times.engine, self.device_times.fp32
        return None if engine is None or fp32 is None else (fp32.p50_ms, engine.p50_ms)

    @property
    def missed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.passed)
