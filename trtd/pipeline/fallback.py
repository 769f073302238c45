"""The advice of Paddle's guide as a policy: calibrate first; take a quantized model where fidelity does not suffice.

Source: Paddle Inference documentation, "Low-precision and INT8 inference with TensorRT".
"""

from __future__ import annotations

from dataclasses import replace

from trtd.pipeline.intake import Intake
from trtd.pipeline.made import MadeEngine
from trtd.pipeline.making import make_from_quantized
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner
from trtd.ui.figures import number
from trtd.verify.gates import FIDELITY_GATES
from trtd.verify.report import Gate, Report

_METRICS = ("metric", "metric_drop")


def fall_back(intake: Intake, report: Report, runner: StageRunner, request: Request) -> MadeEngine | None:
    """The engine of the quantized model beside the float one; ``None`` if there is none, or it would not help."""
    missed = missed_fidelity(report)
    if intake.quantized is None or report.precision != "int8" or missed is None:
        return None
    where = f" of {missed.output}" if missed.output else ""
    told = (
        f"Calibration alone missed {missed.name}{where}: {number(missed.measured)}, must be {missed.comparison} "
        f"{number(missed.bound)}. This engine is made of the quantized model instead."
    )
    made = make_from_quantized(intake, runner, request, intake.quantized)
    return replace(made, notes=(told, *made.notes))


def missed_fidelity(report: Report) -> Gate | None:
    """The first missed gate that other scales may pass. Speed is not among them."""
    return next((gate for gate in report.missed if gate.name in FIDELITY_GATES or gate.name in _METRICS), None)
