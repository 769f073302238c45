"""The tables of the HTML report as rows of finished text: readable without a script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trtd.calibrate.table import CalibrationTable, Method
from trtd.ui import figures, plots
from trtd.ui.literal import visible
from trtd.verify.report import Fidelity, Gate, Latency, Report

_SIGNS = {">=": "≥", "<=": "≤"}
_WORST_FIRST = 16  # inner tensors shown before the fold


@dataclass(frozen=True)
class KeyFigure:
    """One of the large numbers at the top."""

    title: str
    value: str
    unit: str
    detail: str


def key_figures(report: Report) -> list[KeyFigure]:
    """Speed, size, fidelity, and the task: what a reader wants to know first."""
    return [_speed(report), _size(report), _fidelity(report), _task(report)]


def gate_rows(report: Report) -> list[dict[str, Any]]:
    """Missed gates first, else in the report's order."""
    return [_gate_row(gate) for gate in sorted(report.gates, key=lambda gate: gate.passed)]


def fidelity_rows(report: Report) -> list[dict[str, Any]]:
    """Per output two rows: the engine, and FP32 on its target, each against the reference."""
    names = list(dict.fromkeys([*report.fidelity, *report.conversion]))
    return [
        {"output": visible(name), "rows": [row for row in rows if row]}
        for name in names
        for rows in [
            (
                _compared("engine", report.fidelity.get(name)),
                _compared("FP32 alone", report.conversion.get(name)),
            )
        ]
    ]


def latency_rows(report: Report) -> list[dict[str, str]]:
    """Engine, FP32 and maybe FP16 side by side: from host to host and, where there is one, on the GPU alone."""
    sides = [("engine", report.engine_latency), ("FP32", report.fp32_latency), ("FP16", report.fp16_latency)]
    if times := report.device_times:
        gpu = [("engine", times.engine), ("FP32", times.fp32), ("FP16", times.fp16)]
        sides += [(f"{who} on the GPU", latency) for who, latency in gpu]
    return [_timed(who, latency) for who, latency in sides if latency is not None]


def worst_rows(report: Report, table: CalibrationTable | None) -> dict[str, Any]:
    """Inner tensors, worst first, each with the length of its bar in percent of the best one shown."""
    finite = [error.sqnr_db for error in report.worst_tensors if math.isfinite(error.sqnr_db)]
    bound = next((gate.bound for gate in report.gates if gate.name == "sqnr_db" and math.isfinite(gate.bound)), None)
    longest = max([*finite, bound or 0.0, 1.0])
    positions = {name: index for index, name in enumerate(table.tensors)} if table else {}
    rows = [
        {
            "tensor": visible(error.tensor),
            "node": visible(error.node),
            "op": visible(error.op),
            "sqnr": figures.decibels(error.sqnr_db),
            "length": _length(error.sqnr_db, longest),
            "low": not error.sqnr_db >= (bound or 0.0),
            "position": positions.get(error.tensor),
        }
        for error in report.worst_tensors
    ]
    mark = None if bound is None else _length(bound, longest)
    return {"first": rows[:_WORST_FIRST], "rest": rows[_WORST_FIRST:], "mark": mark, "bound": bound}


def tensor_rows(
    report: Report, table: CalibrationTable | None, method: Method | None, activation: str
) -> list[dict[str, Any]]:
    """Every calibrated tensor in the table's order: its range, what the chosen method keeps, a small histogram."""
    decibels = {error.tensor: error.sqnr_db for error in report.worst_tensors}
    rows = []
    for name, tensor in (table.tensors if table else {}).items():
        bounds = plots.method_bounds(tensor, activation).get(method) if method else None
        sqnr = decibels.get(name)
        row: dict[str, Any] = {
            "name": visible(name),
            "min": figures.number(tensor.min),
            "max": figures.number(tensor.max),
            "spark": plots.sparkline(tensor),
            "sqnr": "" if sqnr is None else figures.decibels(sqnr),
            "sqnr_order": _order(sqnr),
            "kept": "",
            "clipped": "",
            "clipped_order": 0.0,
        }
        if bounds:
            clipped = plots.clipped_shares(tensor, [bounds])[0]
            row["kept"] = f"{figures.number(bounds[0], 3)} … {figures.number(bounds[1], 3)}"
            row["clipped"], row["clipped_order"] = figures.share(clipped), clipped
        rows.append(row)
    return rows


def provenance_rows(info: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, str]]:
    """``info`` flattened to (key, text); nested keys are joined by dots, texts of several lines stay whole."""
    for key, value in info.items():
        name = f"{prefix}{visible(key)}"
        if isinstance(value, Mapping):
            yield from provenance_rows(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield {"key": name, "text": visible(", ".join(map(str, value)))}
        elif value is not None:
            yield {"key": name, "text": visible(value, lines=True)}


def _gate_row(gate: Gate) -> dict[str, Any]:
    return {
        "name": visible(gate.name),
        "output": visible(gate.output),
        "bound": f"{_SIGNS[gate.comparison]} {figures.number(gate.bound, 6)}",
        "measured": figures.measured(gate),
        "passed": gate.passed,
        "advice": visible(gate.advice, lines=True),
    }


def _compared(who: str, fidelity: Fidelity | None) -> dict[str, str] | None:
    if fidelity is None:
        return None
    return {
        "who": who,
        "cosine": figures.cosine(fidelity.cosine),
        "sqnr": figures.decibels(fidelity.sqnr_db),
        "relative_l2": figures.number(fidelity.relative_l2, 3),
        "max_abs_error": figures.number(fidelity.max_abs_error, 3),
        "top1": figures.ABSENT if fidelity.top1_agreement is None else figures.share(fidelity.top1_agreement),
        "elements": f"{fidelity.elements:,}",
    }


def _timed(who: str, latency: Latency) -> dict[str, str]:
    return {
        "who": who,
        "p50": figures.millis(latency.p50_ms),
        "p99": figures.millis(latency.p99_ms),
        "mean": figures.millis(latency.mean_ms),
        "items_per_s": figures.millis(latency.items_per_s),
        "batch": str(latency.batch),
        "runs": str(latency.runs),
    }


def _speed(report: Report) -> KeyFigure:
    if report.speedup is None:
        return KeyFigure("Speedup over FP32", figures.ABSENT, "", "not timed: it did not run on its target")
    where = " on the GPU" if report.device_times else ""
    return KeyFigure("Speedup over FP32", *_times(report.speedup), f"{figures.p50_change(report)} ms at p50{where}")


def _size(report: Report) -> KeyFigure:
    times = report.fp32_bytes / report.engine_bytes if report.engine_bytes else math.nan
    return KeyFigure("Size reduction", *_times(times), figures.byte_change(report.fp32_bytes, report.engine_bytes))


def _times(value: float) -> tuple[str, str]:
    text = figures.ratio(value)
    return text.removesuffix(figures.TIMES), figures.TIMES if text.endswith(figures.TIMES) else ""


def _fidelity(report: Report) -> KeyFigure:
    worst = figures.worst_sqnr(report)
    if worst is None:
        return KeyFigure("Worst SQNR", figures.ABSENT, "", "no output was compared")
    name, value = worst
    unit = "dB" if math.isfinite(value) else ""
    return KeyFigure("Worst SQNR", figures.decibels(value), unit, f"at output {visible(name)}")


def _task(report: Report) -> KeyFigure:
    if task := report.metric:
        points = (task.engine - task.reference) * 100
        detail = f"FP32 {figures.share(task.reference)}, {points:+.2f} points"
        title = "Top-1 accuracy" if task.name == "top1" else visible(task.name)
        return KeyFigure(title, figures.share(task.engine).removesuffix(" %"), "%", detail)
    if top1 := figures.worst_top1(report):
        detail = f"same class as the reference, output {visible(top1[0])}"
        return KeyFigure("Top-1 agreement", figures.share(top1[1]).removesuffix(" %"), "%", detail)
    worst = figures.worst_cosine(report)
    if worst is None:
        return KeyFigure("Worst cosine", figures.ABSENT, "", "no output was compared")
    return KeyFigure("Worst cosine", figures.cosine(worst[1]), "", f"of any item, output {visible(worst[0])}")


def _length(value_db: float, longest: float) -> float:
    if math.isnan(value_db):
        return 0.0
    return round(100 * min(max(value_db / longest, 0.0), 1.0), 1)


def _order(sqnr_db: float | None) -> float:
    """Sorting key: not-a-number first, tensors that were not measured last."""
    if sqnr_db is None:
        return 1e9
    return -1e9 if math.isnan(sqnr_db) else min(max(sqnr_db, -1e8), 1e8)
