"""``[verify] repeats``: building and judging the same plan more than once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trtd.pipeline.intake import Intake
from trtd.pipeline.judging import Judged, judge, write_report
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner
from trtd.store.staging import staging_folder
from trtd.verify.report import Repeat, Report


def judge_repeats(intake: Intake, first: Judged, runner: StageRunner, request: Request, scratch: Path) -> Judged:
    """Build and judge as often as the spec asks, every kernel timed anew, and add to the report what came of it.

    Builds of TensorRT differ from run to run: which kernel is fastest is measured each time. The first build stays,
    unless another one misses a gate: then that one is what is told of, and what must not be published.
    """
    builds, engine = intake.spec.verify.repeats, first.engine
    if builds == 1 or first.report.missed or engine.again is None:
        return first
    repeats: list[Repeat] = []
    for number in range(2, builds + 1):
        with staging_folder(runner.registry.staging, f"repeat-{runner.plan.name}") as folder:
            files, warnings = engine.again(folder)
            other = replace(engine, files=files, warnings=warnings)
            judged = judge(intake, other, runner, request, scratch / f"report-{number}")
        repeats.append(_repeat(judged.report))
        if judged.report.missed:
            note = f"This is build {number} of {builds}, and those before had passed: builds of this engine differ."
            return _with(judged, intake, repeats, note)
    return _with(first, intake, repeats)


def _with(judged: Judged, intake: Intake, repeats: list[Repeat], *notes: str) -> Judged:
    news = {"repeats": tuple(repeats), "notes": (*notes, *judged.report.notes)}
    report = judged.report.model_copy(update=news)
    write_report(intake, judged.engine, report, judged.folder)
    return judged._replace(report=report)


def _repeat(report: Report) -> Repeat:
    timed = report.p50_change_ms
    return Repeat(
        cosine=min(f.cosine for f in report.fidelity.values()),
        relative_l2=max(f.relative_l2 for f in report.fidelity.values()),
        p50_ms=timed[1] if timed else None,
        passed=report.passed,
    )
