"""Verification: the data to judge on, the metric and the gates."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from trtd.spec import relations as rules
from trtd.spec.fields import Count, Hook, PathText, Positive
from trtd.spec.section import Relation, Section


class OutputGates(Section):
    """Bounds on how far one output may be from the FP32 reference."""

    cosine: float | None = Field(
        default=None,
        gt=-1,
        le=1,
        description="Lowest cosine similarity of any item. Default: 0.9999 for fp32 and tf32, "
        "0.999 for fp16, 0.995 for bf16, 0.99 for int8.",
    )
    sqnr_db: Positive | None = Field(
        default=None,
        description="Lowest signal-to-quantization-noise ratio over all items, in dB. Default: none, no such gate.",
    )
    relative_l2: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Largest ||engine - reference|| / ||reference|| over all items; an output of zeros has 1.0. "
        "Default: 0.001 for fp32, 0.01 for tf32, which FP32 is on TensorRT-RTX, 0.05 for fp16, "
        "0.1 for bf16, 0.3 for int8.",
    )
    max_abs_error: float | None = Field(
        default=None, ge=0, le=1e6, description="Largest difference of any value. Default: none, no such gate."
    )
    top1_agreement: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Lowest share of rows whose largest class is the reference's, for outputs (items, classes). "
        "Default: 0.999 for fp32 and tf32, 0.99 for fp16, bf16 and int8, where the rows are probabilities.",
    )


AT_MOST_GATES = ("relative_l2", "max_abs_error", "metric_drop")
"""Gates whose bound is the largest allowed value; the bound of all others is the smallest."""


class Gates(OutputGates):
    """What must hold before an engine is published. A gate that can never fail is refused."""

    metric: float | None = Field(
        default=None, gt=0, le=1, description="Lowest value of verify.metric. Default: none, no such gate."
    )
    metric_drop: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Largest loss of verify.metric against the FP32 reference. Default: 0.01, where a metric is set.",
    )
    min_speedup: Positive | None = Field(
        default=None,
        description="Lowest speedup over FP32 on the same target, by median latency. "
        "Default: 1.0 for int8, and for fp16 and bf16 on GPUs; none for others.",
    )
    min_speedup_over_fp16: Positive | None = Field(
        default=None,
        description="Lowest speedup over the FP16 engine of the same spec. Default: none, no such gate.",
    )
    outputs: dict[str, OutputGates] = Field(
        default={}, description="Other bounds for single outputs, by output name. Default: {}, all have the same."
    )


class VerifySection(Section):
    """How the engine is judged against the original model in FP32."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.metric_with_labels, rules.metric_gates_with_metric)

    data: PathText | None = Field(
        default=None,
        description="Data to judge on, disjoint from calibration.data, in the same forms. "
        "Default: none; a part of calibration.data is held out.",
        examples=["../data/heldout/*.png"],
    )
    labels: PathText | None = Field(
        default=None,
        description="Labels for the metric: .npy with a whole number for each item, or lines of FILE LABEL. "
        "Relative to the spec's folder. Default: none.",
        examples=["../data/labels.npy"],
    )
    metric: Hook | None = Field(
        default=None,
        description="Task metric: top1, which needs labels, or a Python hook FILE.py:FUNCTION where the operator "
        "allows hooks. Default: none.",
        examples=["top1", "metrics.py:iou"],
    )
    gates: Gates = Field(default=Gates(), description="Bounds to hold. Default: by the precision, key by key.")
    repeats: int = Field(
        default=1,
        ge=1,
        le=100,
        description="How often an engine is built and judged, where builds differ from run to run, as TensorRT's do; "
        "each must pass, and the first is published. Default: 1.",
    )
    latency_runs: Count = Field(
        default=50, description="Timed runs of the engine, and as many of FP32 between them. Default: 50."
    )
