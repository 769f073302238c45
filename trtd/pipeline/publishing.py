"""From an engine that was built and judged to a published version, or to a report of why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trtd.engines.table import BACKENDS
from trtd.errors import GateMissed
from trtd.pipeline.contracts import (
    LAYERS_FILE,
    PADDLE_TABLES_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    TABLE_FILE,
    ConvertResult,
    output_file,
)
from trtd.pipeline.intake import Intake
from trtd.pipeline.judging import HTML_FILE
from trtd.pipeline.made import MadeEngine
from trtd.pipeline.stage_runner import StageRunner, stage_result
from trtd.registry.layout import Registry
from trtd.registry.manifest import Provenance, Target
from trtd.registry.publish import publish
from trtd.store.atomic import storage_errors, write_file
from trtd.ui.figures import number
from trtd.verify.report import Report

LOG_FILE = "build.log"


def publish_engine(intake: Intake, engine: MadeEngine, report: Report, runner: StageRunner, scratch: Path) -> int:
    """Publish what was built and judged; returns its version.

    Args:
        scratch: folder with ``report.json`` and ``report.html``.

    Raises:
        GateMissed: a gate said no; what tells about the engine is kept in ``.trtd/failed/<name>/``.
        TrtdError: as :func:`trtd.registry.publish.publish`.
    """
    registry, plan = runner.registry, runner.plan
    backend = BACKENDS[plan.target]
    record_files = {
        REPORT_FILE: scratch / REPORT_FILE,
        HTML_FILE: scratch / HTML_FILE,
        SUMMARY_FILE: engine.summary,
        LOG_FILE: runner.log,
    }
    if (scratch / LAYERS_FILE).is_file():
        record_files[LAYERS_FILE] = scratch / LAYERS_FILE
    if engine.table:
        record_files[TABLE_FILE] = engine.table
    if engine.paddle_tables:
        record_files[PADDLE_TABLES_FILE] = engine.paddle_tables
    if report.missed:
        raise _gates_missed(report, _keep_failed(registry, plan.name, record_files))
    signature = ConvertResult.model_validate(stage_result(engine.converted))
    calibration = intake.data.calibration
    provenance = Provenance(
        precision=plan.precision,
        target=Target(
            backend=plan.target,
            fingerprint={**intake.fingerprint, "device": backend.device()},
            variants=engine.files.variants,
            accelerators=engine.accelerators,
        ),
        proof=report.proof,
        gates=report.gates,
        model_digest=intake.facts.digest,
        build_digest=plan.digest,
        ingredients=plan.ingredients,
        calibration_digest=calibration.digest if (engine.table or engine.paddle_tables) and calibration else None,
        scales_digest=engine.quantized.facts.digest if engine.quantized else None,
        heldout_digest=intake.data.heldout.digest,
        spec_file=str(intake.spec_file),
        spec=intake.spec.model_dump(mode="json"),
        inputs=signature.inputs,
        outputs=signature.outputs,
        max_batch_size=intake.max_batch if _keeps_batch(engine.reference, len(signature.outputs)) else 0,
        tools=report.tools,
        notes=engine.told,
    )
    return publish(registry, plan.name, engine.files.paths, record_files, provenance)


def _keeps_batch(reference: Path, outputs: int) -> bool:
    """Whether every output of one item has a leading dimension of one; lists of detections do not."""
    shapes = [np.load(reference / output_file(0, i), mmap_mode="r").shape for i in range(outputs)]
    return all(shape[:1] == (1,) for shape in shapes)


def _keep_failed(registry: Registry, name: str, files: Mapping[str, Path]) -> Path:
    """Copy what tells about an engine that was not published to ``.trtd/failed/<name>/``; returns its HTML report."""
    folder = registry.failed(name)
    with storage_errors("keep the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, source in files.items():
            write_file(folder / file, source.read_bytes())
    return folder / HTML_FILE


def _gates_missed(report: Report, html: Path) -> GateMissed:
    lines = [
        f"{gate.name}{f' of {gate.output}' if gate.output else ''} is {number(gate.measured, 6)}, "
        f"must be {gate.comparison} {gate.bound:g}"
        for gate in report.missed
    ]
    advice = next((gate.advice for gate in report.missed if gate.advice), "")
    return GateMissed(f"not published: {'; '.join(lines)}; report: {html}", where=report.name, hint=advice)
