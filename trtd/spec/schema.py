"""The spec: every key that an author may write, with its type, bounds and default.

The descriptions are what an editor shows on hover; each states its default. Paths stay as written: text relative to
the spec's own folder. :mod:`trtd.spec.paths` resolves them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from trtd.spec import relations as rules
from trtd.spec.calibration import CalibrationSection, Preprocess, QuantizationSection
from trtd.spec.engine import EngineSection, TensorRTSection
from trtd.spec.fields import PADDLE, Count, Dimensions, ModelPath, Name, Precision, Version
from trtd.spec.judging import AT_MOST_GATES, Gates, OutputGates, VerifySection
from trtd.spec.section import Relation, Section, without

__all__ = [
    "AT_MOST_GATES",
    "BuildSection",
    "CalibrationSection",
    "EngineSection",
    "Gates",
    "InputShape",
    "ModelSection",
    "OutputGates",
    "Preprocess",
    "PublishSection",
    "QuantizationSection",
    "Spec",
    "TensorRTSection",
    "VerifySection",
]


class InputShape(Section):
    """The shapes that one model input may take; all three have the model's rank and min <= opt <= max holds."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.ordered_shapes,)

    min: Dimensions = Field(description="Smallest shape, batch first.", examples=[[1, 3, 320, 320]])
    opt: Dimensions = Field(
        description="The shape to calibrate, tune and measure at, batch first.", examples=[[1, 3, 640, 640]]
    )
    max: Dimensions = Field(description="Largest shape, batch first.", examples=[[4, 3, 960, 960]])


class ModelSection(Section):
    """Where the source model is: a path, or a model in the registry. Exactly one of the two."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.one_source, rules.version_of_registry)

    path: ModelPath | None = Field(
        default=None,
        description="A Paddle model (.json or .pdmodel, its parameters beside it), a folder that holds one, or .onnx. "
        "Relative to the spec's folder. Default: none; then registry is needed.",
        examples=["../models/ppocr_det"],
    )
    registry: Name | None = Field(
        default=None,
        description="A model in the registry's models/ folder. Default: none; then path is needed.",
        examples=["ppocr_det"],
    )
    version: Version | None = Field(
        default=None,
        description='Which version of the registry model: a number, or "latest" to follow new ones. Default: "latest".',
        examples=["latest", 3],
    )
    inputs: dict[str, InputShape] = Field(
        default={},
        description="Shapes by input name; needed only where the model leaves dimensions open. Default: {}.",
    )


class PublishSection(Section):
    """How the engine is kept in the registry."""

    keep: Count = Field(default=3, description="Versions to keep; older ones are removed by gc. Default: 3.")
    unverified: bool = Field(
        default=False, description="Publish even what could not be verified on its target. Default: false."
    )
    on_delete: Literal["keep", "unpublish"] = Field(
        default="keep",
        description="What the daemon does with the engine when the spec is deleted, or lists its target no more: "
        'keep or unpublish. Default: "keep".',
    )


class BuildSection(Section):
    """Limits on the processes that build, and when the daemon starts them."""

    deadline_s: float = Field(
        default=3600.0, gt=0, le=30 * 86400, description="Seconds that one stage may take. Default: 3600.0."
    )
    memory_limit_bytes: int | None = Field(
        default=None,
        ge=2**26,
        le=2**63 - 1,
        description="Memory that one stage's process may take, in bytes. Default: none, no limit.",
        examples=[4_000_000_000],
    )
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="The daemon builds what has a higher priority first. Default: 0."
    )
    rebuild: Literal["auto", "ask"] = Field(
        default="auto",
        description="What the daemon does when tools or the device changed, not the spec, model or data: auto builds "
        'anew, ask marks the engine stale and waits for `trtd retry NAME`. Default: "auto".',
    )


class Spec(Section):
    """One spec: a model, what to build of it, and what must hold before it is published."""

    relations: ClassVar[tuple[Relation, ...]] = (
        rules.data_to_judge_on,
        rules.one_source_of_scales,
        rules.disjoint_data,
        rules.engine_names_fit,
        rules.symmetric_for_tensorrt,
        rules.fp16_beside_int8,
        rules.quantization_by_paddle,
    )

    name: Name = Field(
        description="The engine's name in the registry. Default: the file's name without .toml.", examples=["ppocr-det"]
    )
    model: ModelSection = Field(description="Where the source model is.")
    engine: EngineSection = Field(default=EngineSection(), description="What to build. Default: int8 on the CPU.")
    calibration: CalibrationSection | None = Field(
        default=None,
        description="Real data to calibrate int8 on. Default: none; int8 needs it, unless the model is quantized.",
    )
    quantization: QuantizationSection = Field(
        default=QuantizationSection(), description="What int8 leaves in float. Default: what the target does best."
    )
    verify: VerifySection = Field(
        default=VerifySection(), description="How the engine is judged. Default: on held-out data, by default gates."
    )
    publish: PublishSection = Field(
        default=PublishSection(), description="How the engine is kept. Default: three versions."
    )
    build: BuildSection = Field(default=BuildSection(), description="How builds run. Default: one hour a stage.")

    @property
    def engine_names(self) -> dict[Precision, str]:
        """The registry name of each engine of a spec with one target: NAME, or NAME-fp16, NAME-int8 for a list."""
        if isinstance(self.engine.precision, list):
            return {precision: f"{self.name}-{precision}" for precision in self.engine.precision}
        return {self.engine.precision: self.name}

    def per_target(self) -> tuple[Spec, ...]:
        """One spec for each target: itself, or for a list of targets specs named NAME-TARGET that have one each.

        Each holds what its target reads, and nothing of what only another one does.
        """
        if not isinstance(self.engine.target, list):
            return (self,)
        parts = []
        for target in self.engine.target:
            update: dict[str, object] = {"name": f"{self.name}-{target}", "engine": self.engine.of_target(target)}
            if target in PADDLE and self.calibration is not None:  # TensorRT calibrates there, in its own way
                update["calibration"] = without(self.calibration, rules.OWN_CALIBRATION)
            parts.append(self.model_copy(update=update))
        return tuple(parts)
