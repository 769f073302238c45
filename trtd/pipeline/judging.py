"""Judging an engine: the verify stage, and the report for people."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trtd.calibrate.table import read_table
from trtd.engines.reference import reference_name
from trtd.engines.table import BACKENDS
from trtd.pipeline.contracts import REPORT_FILE, VerifyInputs
from trtd.pipeline.intake import Intake
from trtd.pipeline.made import MadeEngine
from trtd.pipeline.request import Request
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.pipeline.tools import tool_versions
from trtd.store.atomic import storage_errors
from trtd.ui.html import render
from trtd.verify.report import Report

HTML_FILE = "report.html"


class Judged(NamedTuple):
    """An engine, what was found, and the folder with ``report.json``, ``report.html`` and what else tells of it."""

    engine: MadeEngine
    report: Report
    folder: Path


def judge(intake: Intake, engine: MadeEngine, runner: StageRunner, request: Request, folder: Path) -> Judged:
    """Judge the engine; makes ``folder`` for what there is to tell."""
    with storage_errors("make a folder for the report", folder):
        folder.mkdir()
    plan, data = runner.plan, intake.data
    unverifiable = engine.files.unverifiable
    inputs = VerifyInputs(
        name=plan.name,
        target=plan.target,
        precision=plan.precision,
        converted=engine.converted,
        graph=engine.graph,
        summary=engine.summary,
        engine=None if unverifiable else engine.files,
        baselines=engine.baselines,
        unverifiable=unverifiable,
        engine_bytes=engine.files.size_bytes,
        tf32=BACKENDS[plan.target].always_tf32() or intake.spec.engine.tensorrt.tf32,
        kernels=runner.registry.private / "cache",
        reference=engine.reference,
        reference_name=reference_name(intake.facts.format) + (", quantized" if intake.facts.quantized else ""),
        outputs=len(stage_result(engine.reference)["outputs"]),
        heldout=data.heldout,
        batch=intake.batch,
        verify=intake.spec.verify,
        labels=intake.labels,
        spec_folder=intake.spec_file.parent,
        threads=request.used_threads,
        tools=tool_versions(plan.target, intake.facts.format),
        notes=(*data.notes, *engine.told),
        hooks_allowed=request.bounds.hooks_allowed,
    )
    runner.run_into(folder, "verify", inputs)
    report = Report.model_validate_json((folder / REPORT_FILE).read_bytes())
    write_report(intake, engine, report, folder)
    return Judged(engine, report, folder)


def write_report(intake: Intake, engine: MadeEngine, report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.html``."""
    table = read_table(engine.table) if engine.table else None
    by_paddle = intake.data.calibration if engine.paddle_tables else None
    calibration, times = intake.spec.calibration, report.device_times
    symmetric = BACKENDS[report.target].symmetric
    facts = {
        "method": calibration.method if calibration and table else None,
        "activation": "int8" if symmetric or intake.spec.quantization.activation == "int8" else "uint8",
        "model digest": intake.facts.digest,
        "calibration set": table.set_digest if table else by_paddle.digest if by_paddle else "none",
        "held-out set": intake.data.heldout.digest,
        "device": times.gpu if times else BACKENDS[report.target].device(),
    }
    html = render(report, table, {k: v for k, v in facts.items() if v})
    with storage_errors("write the report", folder / HTML_FILE):
        (folder / REPORT_FILE).write_text(report.model_dump_json(indent=1), encoding="utf-8")
        (folder / HTML_FILE).write_text(html, encoding="utf-8")
