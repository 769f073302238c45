"""The engine: for which targets, in which precisions, and how TensorRT is to build it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from trtd.spec import engine_relations as rules
from trtd.spec.fields import (
    LARGEST,
    PADDLE,
    TENSORRT,
    Capability,
    Count,
    HardwareCompatibility,
    ModelPath,
    PathText,
    Precision,
    Precisions,
    Target,
    Targets,
    Text,
)
from trtd.spec.section import Relation, Section, without

MAX_BYTES = 2**63 - 1


class TensorRTSection(Section):
    """How TensorRT and TensorRT-RTX build an engine. Refitting is never prepared for."""

    workspace_bytes: int | None = Field(
        default=None,
        ge=2**20,
        le=MAX_BYTES,
        description="Device memory that a layer may use for intermediate results. Default: none, all of the device's.",
        examples=[1 << 30],
    )
    optimization_level: int = Field(
        default=3, ge=0, le=5, description="How long the builder searches for faster kernels, 0 to 5. Default: 3."
    )
    timing_cache: PathText | None = Field(
        default=None,
        description="A file of kernel timings to start from, beside those that the registry keeps for each GPU and "
        "version; it is only read. Of target tensorrt alone. Default: none.",
        examples=["../caches/a10.cache"],
    )
    sparse_weights: bool = Field(
        default=False, description="Use kernels for weights that are 2:4 sparse already. Default: false."
    )
    tf32: bool = Field(
        default=False,
        description="Let FP32 products be rounded to 10 bits of mantissa, in the FP32 engine that others are measured "
        "beside as well. TensorRT-RTX always does. Default: false.",
    )
    version_compatible: bool = Field(
        default=False,
        description="Make an engine that later versions of TensorRT load too, of target tensorrt alone. "
        "Default: false.",
    )
    hardware_compatibility: HardwareCompatibility = Field(
        default="none",
        description="For which other GPUs the engine is made: none, same-compute-capability or ampere-plus, of target "
        'tensorrt alone; it may be slower. Default: "none".',
    )
    aux_streams: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="CUDA streams beside the main one, at most. Default: TensorRT's choice.",
    )


class PaddleSection(Section):
    """What is said to Paddle Inference, by its own names. Source: Paddle Inference API, ``Config``."""

    memory_pool_init_size_mb: Count = Field(
        default=256, description="GPU memory in MB that Paddle takes at the start. Default: 256."
    )
    convert_to_mixed_precision: bool = Field(
        default=False,
        description="paddle, fp16 and bf16: convert the weights in the file, which halves it; else they are converted "
        "when the engine is loaded. Default: false.",
    )
    workspace_size: int = Field(
        default=1 << 30, ge=1, le=MAX_BYTES, description="Bytes that TensorRT may take. Default: 1073741824."
    )
    max_batch_size: Count | None = Field(
        default=None,
        description="Largest batch where the other dimensions are fixed. Default: that of max in [model.inputs].",
    )
    min_subgraph_size: int = Field(
        default=5,
        ge=0,
        le=LARGEST,
        description="Subgraphs of so many operators, or fewer, stay with Paddle. Default: 5.",
    )
    use_static: bool = Field(
        default=False,
        description="Keep the TensorRT engines beside the model: loading takes seconds, on this GPU. Default: false.",
    )
    use_calib_mode: bool | None = Field(
        default=None,
        description="int8: calibrate, or use the calibration table; false takes the scales of a quantized model. "
        "Default: true for a float model, false for a quantized one.",
    )
    use_cuda_graph: bool = Field(
        default=False,
        description="Replay one CUDA graph: needs the whole model in TensorRT and one shape. Default: false.",
    )
    collect_shape_range_info: bool = Field(
        default=False,
        description="Collect the shapes of all tensors on real data, for models of open sizes; else the shapes of "
        "[model.inputs] count. Default: false.",
    )
    exp_disable_tensorrt_ops: list[Text] = Field(
        default=[], description="Operator types or variables that stay with Paddle. Default: [].", examples=[["pool2d"]]
    )
    exp_disable_tensorrt_subgraph: list[Text] = Field(
        default=[], description="Variables whose subgraphs stay with Paddle; Paddle 3. Default: []."
    )


class EngineSection(Section):
    """What to build."""

    relations: ClassVar[tuple[Relation, ...]] = (
        rules.capabilities_of_tensorrt,
        rules.options_of_tensorrt,
        rules.options_of_full_tensorrt,
        rules.precisions_of_target,
        rules.options_of_paddle,
        rules.options_of_paddle_tensorrt,
    )

    target: Targets = Field(
        default="onnxruntime-cpu",
        description="The backend that the engine is built for and verified on: onnxruntime-cpu, tensorrt, "
        "tensorrt-rtx, paddle or paddle-tensorrt; a list builds one engine for each: NAME-TENSORRT-RTX ... "
        'Default: "onnxruntime-cpu".',
        examples=["tensorrt", ["onnxruntime-cpu", "tensorrt-rtx"]],
    )
    precision: Precisions = Field(
        default="int8",
        description="fp32, fp16, bf16 or int8; a list builds one engine of each: NAME-fp16, NAME-int8. "
        "bf16 is for paddle. "
        'int8 needs [calibration]. Default: "int8".',
        examples=["int8", ["fp16", "int8"]],
    )
    quantized_model: ModelPath | None = Field(
        default=None,
        description="A model of PaddleSlim or paddle.quantization, made from the same float model: int8 is built from "
        "it where calibration alone misses a gate of fidelity. Relative to the spec's folder. Default: none.",
        examples=["../models/det_qat"],
    )
    compute_capabilities: list[Capability] = Field(
        default=[],
        description="Compute capabilities of the GPUs that TensorRT engines are for, one engine file each. "
        "TensorRT-RTX builds them without a GPU. Default: [], that of this machine's GPU.",
        examples=[["8.6", "8.9", "12.0"]],
    )
    tensorrt: TensorRTSection = Field(
        default=TensorRTSection(), description="How TensorRT builds. Default: as TensorRT does by itself, without TF32."
    )
    paddle: PaddleSection = Field(
        default=PaddleSection(), description="What is said to Paddle Inference. Default: as its guide advises."
    )

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions to build, in the author's order."""
        return tuple(self.precision) if isinstance(self.precision, list) else (self.precision,)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets to build for, in the author's order."""
        return tuple(self.target) if isinstance(self.target, list) else (self.target,)

    @property
    def only_target(self) -> Target:
        """The target of a spec that has one: :meth:`trtd.spec.schema.Spec.per_target` gives such."""
        (target,) = self.targets
        return target

    def of_target(self, target: Target) -> EngineSection:
        """The section as this target alone reads it: what only others read is at its default."""
        tensorrt, paddle = self.tensorrt, self.paddle
        if target not in TENSORRT:
            tensorrt = TensorRTSection()
        elif target != "tensorrt":
            tensorrt = without(tensorrt, rules.FULL_TENSORRT)
        if target not in PADDLE:
            paddle = PaddleSection()
        elif target == "paddle":
            paddle = without(paddle, set(PaddleSection.model_fields).difference(rules.PADDLE_KERNELS))
        else:
            paddle = without(paddle, [rules.PADDLE_MIXED])
        capabilities = self.compute_capabilities if target in TENSORRT else []
        read = {"target": target, "tensorrt": tensorrt, "paddle": paddle, "compute_capabilities": capabilities}
        return self.model_copy(update=read)
