"""The HTML report: one file that opens offline, reads without a script and draws its charts with one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from trtd.calibrate.table import METHODS, CalibrationTable
from trtd.ui import figures, plots, sections
from trtd.ui.literal import visible
from trtd.verify.report import Report

_SHOWN_ELSEWHERE = ("name", "version", "target", "precision", "proof", "gates", "tools", "notes")


def render(report: Report, table: CalibrationTable | None, info: Mapping[str, Any]) -> str:
    """One self-contained page. Nothing in it is fetched, and its content policy forbids fetching.

    Args:
        report: what verification measured.
        table: the calibration table; ``None`` for engines that need none, which leaves the tensor ranges out.
        info: what the manifest adds, every key optional: ``version``; ``method`` (the calibration method chosen, whose
            bounds are highlighted); ``activation`` (``uint8``, the default, draws affine bounds, ``int8`` symmetric
            ones). All other keys are listed under *Provenance*, nested ones flattened.
    """
    method = next((known for known in METHODS if known == info.get("method")), None)
    activation = str(info.get("activation", "uint8"))
    data = plots.script_json(plots.chart_data(report, table, method, activation))
    library, script = _asset("uPlot.iife.min.js"), _asset("report.js")
    return _template().render(
        report=report,
        name=visible(report.name),
        version=visible(info.get("version", "")),
        target=visible(report.target),
        precision=visible(report.precision),
        reference=visible(report.reference),
        verdict=figures.verdict(report),
        key_figures=sections.key_figures(report),
        gates=sections.gate_rows(report),
        fidelity=sections.fidelity_rows(report),
        latency=sections.latency_rows(report),
        outputs=[visible(name) for name in report.output_errors],
        worst=sections.worst_rows(report, table),
        tensors=sections.tensor_rows(report, table, method, activation),
        table=table,
        method=method or "",
        notes=[visible(note, lines=True) for note in report.notes],
        tools=[(visible(tool), visible(release)) for tool, release in report.tools.items()],
        provenance=list(sections.provenance_rows(_remaining(info, table))),
        spark=(plots.SPARK_BINS, plots.SPARK_HEIGHT),
        policy=_policy(library, script),
        style=Markup(_asset("uPlot.min.css") + _asset("report.css")),
        library=Markup(library),
        script=Markup(script),
        data=Markup(data),
    )


def _remaining(info: Mapping[str, Any], table: CalibrationTable | None) -> dict[str, Any]:
    calibration = {"model_digest": table.model_digest, "set_digest": table.set_digest} if table else {}
    return {
        **{key: value for key, value in info.items() if key not in _SHOWN_ELSEWHERE},
        **({"calibration": calibration} if calibration and "calibration" not in info else {}),
    }


def _asset(name: str) -> str:
    return (files("trtd.ui") / "assets" / name).read_text(encoding="utf-8")


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2"))


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy under which these scripts run and nothing else runs or is fetched."""
    allowed = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
