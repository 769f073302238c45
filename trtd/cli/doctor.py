"""``trtd doctor``: what this machine can build."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from trtd.errors import EXIT_ENVIRONMENT, EXIT_OK, EnvironmentMissing, StageError

EXAMPLE = "  trtd doctor --json"

EVERYTHING = "imports"  # stands for all packages where one of them takes the process down
ESSENTIAL = ("onnxruntime", "onnx", "onnx-ir", "fast-histogram")
ADVICE = {
    "paddlepaddle": "pip install 'trtd[cpu]'; without it only ONNX models can be built",
    "paddle2onnx": "pip install 'trtd[cpu]' on Python 3.10 to 3.12; on 3.13 set TRTD_CONVERTER_PYTHON, see the README",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    from trtd.engines.cpu import cpu_facts
    from trtd.engines.table import BACKENDS
    from trtd.ui.machine import emit, emit_error
    from trtd.ui.text import Screen

    cpu = cpu_facts()
    packages = _probe()
    missing = [p for p in packages if p["error"]]
    broken = [p for p in missing if p["name"] in (*ESSENTIAL, EVERYTHING)]
    data = {
        "python": platform.python_version(),
        "cpu": {"model": cpu.model, "cores": cpu.cores, "vnni": cpu.vnni},
        "targets": sorted(BACKENDS),
        "packages": packages,
        "ok": not broken,
    }
    if args.json and broken:
        names = ", ".join(p["name"] for p in broken)
        emit_error("doctor", EnvironmentMissing(f"nothing can be built: {names}", hint=_advice(broken[0])), data=data)
    elif args.json:
        emit("doctor", data)
    else:
        screen = Screen(sys.stdout)
        screen.line(f"Python {platform.python_version()} on {cpu.model}, {cpu.cores} cores")
        vnni = "yes: INT8 with 8-bit weights" if cpu.vnni else "no: INT8 keeps weights to 7 bits, and may not pay"
        screen.line(f"8-bit dot products (VNNI): {vnni}")
        screen.line(f"targets: {', '.join(sorted(BACKENDS))}")
        for package in packages:
            state = f"✗ {package['error']}" if package["error"] else f"✓ {package['version']}"
            screen.line(f"  {package['name']:<16} {state}  ({package['purpose']})")
        for package in missing:
            screen.line(f"{package['name']}: {_advice(package)}", "yellow")
    return EXIT_ENVIRONMENT if broken else EXIT_OK


def _advice(package: dict[str, Any]) -> str:
    return ADVICE.get(package["name"], "pip install --force-reinstall trtd")


def _probe() -> list[dict[str, Any]]:
    from trtd.pipeline.job import Job
    from trtd.pipeline.launch import launch

    with tempfile.TemporaryDirectory(prefix="trtd-doctor-") as folder:
        out = Path(folder) / "out"
        out.mkdir()
        try:
            result = launch(Job(stage="doctor", inputs={}, out=out, deadline_s=120), log=Path(folder) / "doctor.log")
        except StageError as error:  # a package took the process down with it
            return [{"name": EVERYTHING, "version": None, "purpose": "all", "error": error.message}]
    packages: list[dict[str, Any]] = result.value["packages"]
    return packages
