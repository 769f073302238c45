"""From what a spec and its files say to plans, one for each engine."""

from __future__ import annotations

from trtd.pipeline.intake import Intake
from trtd.pipeline.tools import tool_versions
from trtd.plan.build_plan import BuildPlan, make_plan
from trtd.spec.fields import Precision
from trtd.store.digest import file_digest


def make_plans(intake: Intake) -> tuple[BuildPlan, ...]:
    """One plan for each precision of the spec. Reads and hashes the chosen data."""
    return tuple(plan_of(intake, precision) for precision in intake.spec.engine.precisions)


def plan_of(intake: Intake, precision: Precision, *, name: str | None = None) -> BuildPlan:
    """The plan of one precision, be it one that the spec asks for or another, to compare with, under a given name."""
    spec, data = intake.spec, intake.data
    collects = spec.engine.only_target == "paddle-tensorrt" and spec.engine.paddle.collect_shape_range_info
    return make_plan(
        spec,
        precision,
        name=name or spec.engine_names[precision],
        model_digest=intake.facts.digest,
        profiles=intake.profiles,
        calibration_digest=data.calibration.digest if data.calibration else None,
        heldout_digest=data.heldout.digest,
        heldout_order_digest=data.heldout.order_digest,
        labels_digest=file_digest(intake.labels) if intake.labels else None,
        hook_digest=file_digest(intake.hook) if intake.hook else None,
        table_digest=file_digest(intake.table) if intake.table else None,
        quantized=intake.facts.quantized,
        fallback_digest=intake.quantized.facts.digest if intake.quantized else None,
        shapes_digest=(data.calibration or data.heldout).digest if collects else None,
        fingerprint=intake.fingerprint,
        tools=tool_versions(spec.engine.only_target, intake.facts.format),
    )
