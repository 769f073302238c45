"""``python -m benchmarks [SECTION …]``: measure, print, and write ``benchmarks/results/cpu.md`` and ``cpu.json``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from inspect import cleandoc
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.daemon import figures
from benchmarks.dashboard import redraws
from benchmarks.setting import ROOT, Setting, prepare, request, write_spec
from trtd.calibrate.table import METHODS
from trtd.engines.cpu import cpu_facts
from trtd.pipeline.build import build, calibrate
from trtd.pipeline.contracts import FP32_FILE, GRAPH_FILE
from trtd.pipeline.tools import tool_versions
from trtd.verify.report import Latency

RESULTS = ROOT / "benchmarks" / "results"
MB = 1e6
Rows = list[dict[str, Any]]


def calibration(setting: Setting) -> Rows:
    """Time against plain FP32 inference over the same pages, interleaved; peak memory against the number of pages."""
    rows: Rows = []
    ratios = []
    for _ in range(3):
        plain = setting.measure("plain_inference", setting.calibration_inputs(64))
        ours = setting.measure("trtd_calibration", setting.calibration_inputs(64))
        ratios.append((ours.value["seconds"] / plain.value["seconds"], plain, ours))
    ratio, plain, ours = sorted(ratios, key=lambda r: r[0])[1]
    rows.append(_row("plain FP32 inference", 64, plain, 1.0))
    rows.append(_row("trtd, all four methods in one pass", 64, ours, ratio))
    for pages in (16, 256):
        rows.append(
            _row(
                "trtd, all four methods in one pass",
                pages,
                setting.measure("trtd_calibration", setting.calibration_inputs(pages)),
                None,
            )
        )
    plain = setting.measure("plain_inference", setting.calibration_inputs(16))
    theirs = setting.measure("onnxruntime_calibration", setting.calibration_inputs(16))
    rows.append(
        _row("onnxruntime quantize_static, entropy", 16, theirs, theirs.value["seconds"] / plain.value["seconds"])
    )
    return rows


def _row(what: str, pages: int, result: Any, ratio: float | None) -> dict[str, Any]:
    return {
        "what": what,
        "pages": pages,
        "seconds": round(result.value["seconds"], 2),
        "times plain": "" if ratio is None else round(ratio, 2),
        "peak MB": round(result.peak_rss_bytes / MB),
    }


def int8(setting: Setting) -> Rows:
    """INT8 of PP-OCRv4 detection by every method: speed and fidelity on held-out pages, beside FP32 and Paddle."""
    rows: Rows = []
    paddle = setting.measure("paddle_inference", setting.reference_inputs()).value["p50_ms"]
    for method in METHODS:
        outcome = build(write_spec(method), request(setting))[0]
        report = outcome.report
        if report is None or report.engine_latency is None or report.fp32_latency is None or report.speedup is None:
            raise SystemExit(str(outcome.error))
        engine = setting.registry.engine(outcome.name, outcome.version or 0) / GRAPH_FILE
        inputs = {
            "engine": str(engine),
            "fp32": str(setting.converted / FP32_FILE),
            "heldout": setting.intake.data.heldout.model_dump(mode="json"),
        }
        fidelity = next(iter(report.fidelity.values()))
        rows.append(
            {
                "method": method,
                "Paddle FP32 ms": round(paddle, 1),
                "ONNX FP32 ms": round(report.fp32_latency.p50_ms, 2),
                "INT8 ms": round(report.engine_latency.p50_ms, 2),
                "speedup, p50": round(report.speedup, 2),
                "speedup, best run": round(_best(report.fp32_latency) / _best(report.engine_latency), 2),
                "mask IoU": round(setting.measure("mask_iou", inputs).value["iou"], 4),
                "relative L2": round(fidelity.relative_l2, 3),
            }
        )
    return rows


def _best(latency: Latency) -> float:
    """What the code costs where nobody disturbs it, in ms."""
    return min(latency.samples_ms)


def placement(setting: Setting) -> Rows:
    """What running more operators in 8 bits brings: PP-OCRv4 detection, one calibration table (entropy).

    Speedups are over the FP32 graph as it is converted, BatchNorm and constants folded.
    """
    table, _ = calibrate(setting.spec_file, request(setting))
    inputs = {
        "table": str(table),
        "method": "entropy",
        "converted": str(setting.converted),
        "heldout": setting.intake.data.heldout.model_dump(mode="json"),
    }
    rows: Rows = setting.measure("placements", inputs).value["rows"]
    return rows


def digits(setting: Setting) -> Rows:
    """The digits example: top-1 of INT8 and FP16 against FP32."""
    rows: Rows = []
    for outcome in build(ROOT / "specs" / "digits.toml", request(setting)):
        report = outcome.report
        if report is None or report.metric is None or report.speedup is None:
            raise SystemExit(str(outcome.error))
        rows.append(
            {
                "engine": outcome.name,
                "top-1 %": round(report.metric.engine * 100, 2),
                "FP32 top-1 %": round(report.metric.reference * 100, 2),
                "speedup": round(report.speedup, 2),
                "kB": round(report.engine_bytes / 1e3),
                "FP32 kB": round(report.fp32_bytes / 1e3),
            }
        )
    return rows


def startup(setting: Setting) -> Rows:
    """Whole-process time of light commands, compiled before: median of 9, beside an empty Python."""
    trtd = str(Path(sys.executable).with_name("trtd"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "trtd --help": [trtd, "--help"],
        "trtd check SPEC": [trtd, "check", str(ROOT / "specs" / "digits.toml")],
        "trtd build SPEC (up to date)": [
            trtd, "build", str(ROOT / "specs" / "digits.toml"), "--registry", str(setting.registry.root),
        ],
    }  # fmt: skip
    # As after `pip install`, which compiles every module; an editable install is compiled by its first run.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    rows: Rows = []
    for name, command in commands.items():
        times = []
        for _ in range(1 + 9):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            times.append(time.perf_counter() - start)
        times = times[1:]
        rows.append(
            {"command": name, "median ms": round(statistics.median(times) * 1e3), "max ms": round(max(times) * 1e3)}
        )
    return rows


def dashboard(setting: Setting) -> Rows:
    """One redraw of `trtd status --watch` while the daemon has 5,000 specs: 100 for each size of the terminal."""
    del setting
    return redraws()


def daemon(setting: Setting) -> Rows:
    """The daemon over specs whose engines are right: one engine is built, the others are copies under other names."""
    del setting
    return figures()


SECTIONS = {
    "calibration": calibration,
    "int8": int8,
    "placement": placement,
    "digits": digits,
    "startup": startup,
    "dashboard": dashboard,
    "daemon": daemon,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    console = Console()
    console.print("drawing pages and converting the model …")
    setting = prepare(options.threads)
    measured = _recorded()
    for name in options.sections or SECTIONS:
        console.print(f"measuring {name} …")
        measured[name] = {"machine": _machine(options.threads), "rows": SECTIONS[name](setting)}
        console.print(_table(name, measured[name]["rows"]))
        _write(measured)
    console.print(f"written: {RESULTS / 'cpu.md'}")


def _recorded() -> dict[str, Any]:
    """Sections as they were measured last, each with the machine that it was measured on."""
    path = RESULTS / "cpu.json"
    recorded: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return recorded


def _machine(threads: int) -> dict[str, Any]:
    return {
        "cpu": cpu_facts().model,
        "vnni": cpu_facts().vnni,
        "threads": threads,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "tools": tool_versions("onnxruntime-cpu", "paddle-pir"),
    }


def _table(name: str, rows: Rows) -> Table:
    table = Table(title=_title(name), title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(v) for v in row.values()))
    return table


def _title(name: str) -> str:
    return cleandoc(str(SECTIONS[name].__doc__))


def _write(measured: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "cpu.json").write_text(json.dumps(measured, indent=1) + "\n")
    lines = [
        "# Results on CPU",
        "",
        "Written by `make bench`. Figures depend on the machine; those of one table were measured in one run.",
    ]
    for name in (name for name in SECTIONS if name in measured):
        machine, rows = measured[name]["machine"], measured[name]["rows"]
        tools = ", ".join(f"{tool} {version}" for tool, version in machine["tools"].items())
        lines += ["", f"## {name}", "", _title(name), ""]
        vnni = "with" if machine["vnni"] else "without"
        lines += [f"{machine['cpu']} {vnni} VNNI, {machine['threads']} threads, {machine['date']}; {tools}.", ""]
        lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(str(v) for v in row.values()) + " |" for row in rows]
    (RESULTS / "cpu.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
