"""What was made and nobody has judged yet; and the original model's outputs, by which it will be judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from trtd.engines.opening import EngineFiles
from trtd.pipeline.contracts import ReferenceInputs
from trtd.pipeline.intake import Intake, Quantized
from trtd.pipeline.planning import plan_of
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner


@dataclass(frozen=True)
class MadeEngine:
    """What was made, by folders of the stages' outputs.

    Attributes:
        converted: by convert.
        reference: by reference.
        graph: the graph in the engine's precision, by quantize.
        summary: what quantize says of it.
        table: the calibration table as it was used; ``None`` without one.
        paddle_tables: what TensorRT inside Paddle calibrated, :class:`PaddleTables`; ``None`` where it did not.
        files: the engine.
        baselines: engines of other precisions for the same target, to time it beside; ``fp32`` always.
        quantized: the quantized model that its scales are from, where that is another than the source.
        warnings: of the target's builder.
        notes: what a report should say of how it was made.
        accelerators: what Triton is told of TensorRT, where its backend for the target asks.
        again: compiles the engine once more, into an empty folder; ``None`` where nothing is compiled.
    """

    converted: Path
    reference: Path
    graph: Path
    summary: Path
    table: Path | None
    files: EngineFiles
    baselines: dict[str, EngineFiles]
    paddle_tables: Path | None = None
    quantized: Quantized | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    accelerators: dict[str, dict[str, str]] = field(default_factory=dict)
    again: Callable[[Path], tuple[EngineFiles, tuple[str, ...]]] | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """Everything that a report should say of how it was made."""
        return (*self.notes, *(f"{self.files.target}: {warning}" for warning in self.warnings))


def own_scales(intake: Intake) -> tuple[str, ...]:
    """What to note of a model that is quantized itself."""
    if not intake.facts.quantized:
        return ()
    return ("The model is quantized: scales are its own, and it is judged by its own run in Paddle.",)


def made_of(intake: Intake, runner: StageRunner, quantized: Quantized | None) -> tuple[Intake, StageRunner]:
    """The same job with a quantized model in the place of the float one, if there is one; the store keeps both."""
    if quantized is None:
        return intake, runner
    other = intake.of(quantized)
    return other, replace(runner, plan=plan_of(other, "int8", name=runner.plan.name))


def reference_of(intake: Intake, runner: StageRunner, request: Request) -> Path:
    """Folder with what the original model gives on the held-out items."""
    inputs = ReferenceInputs(
        source=intake.source, facts=intake.facts, heldout=intake.data.heldout, threads=request.used_threads
    )
    return runner.run("reference", inputs)
