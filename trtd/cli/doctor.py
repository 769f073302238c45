"""``trtd doctor``: what this machine can build."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.errors import EXIT_ENVIRONMENT, EXIT_OK, EnvironmentMissing, StageError

if TYPE_CHECKING:
    from trtd.ui.text import Screen

EXAMPLE = "  trtd doctor --json"

ABSENT = "not installed"
OPTIONAL = ("tensorrt", "tensorrt-rtx", "cuda-bindings", "nvidia-ml-py")  # only some targets need them
EVERYTHING = "imports"  # stands for all packages where one of them takes the process down
ESSENTIAL = ("onnxruntime", "onnx", "onnx-ir", "fast-histogram")
ADVICE = {
    "paddlepaddle": "pip install 'trtd[cpu]'; without it only ONNX models can be built",
    "paddle2onnx": "pip install paddle2onnx==2.1.0 packaging setuptools on Python 3.10 to 3.12; on 3.13 set "
    "TRTD_CONVERTER_PYTHON, see the README; Paddle's own targets do without",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    from trtd.engines.cpu import cpu_facts
    from trtd.ui.machine import emit, emit_error
    from trtd.ui.text import Screen

    cpu = cpu_facts()
    probed = _probe()
    packages, paddle = probed["packages"], probed["paddle"]
    missing = [p for p in packages if p["error"] and not (p["name"] in OPTIONAL and p["error"] == ABSENT)]
    broken = [p for p in missing if p["name"] in (*ESSENTIAL, EVERYTHING)]
    data = {
        "python": platform.python_version(),
        "cpu": {"model": cpu.model, "cores": cpu.cores, "vnni": cpu.vnni},
        "targets": _targets(),
        "gpus": _gpus(),
        "hardware": _hardware(),
        "paddle": paddle,
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
        _show_devices(screen)
        if paddle is not None:
            screen.line(f"Paddle: {paddle['words']}")
        screen.line("packages:")
        width = max(len(package["name"]) for package in packages)
        for package in packages:
            mark = "✗" if package in missing else "–"
            state = f"{mark} {package['error']}" if package["error"] else f"✓ {package['version']}"
            screen.line(f"  {package['name']:<{width}}  {state}  ({package['purpose']})")
        for package in missing:
            screen.line(f"{package['name']}: {_advice(package)}", "yellow")
    return EXIT_ENVIRONMENT if broken else EXIT_OK


def _targets() -> dict[str, dict[str, str]]:
    """What keeps this machine from building and from verifying for each target; empty where nothing does.

    ``only``: the precisions that it builds, where it does not build all, and why.
    """
    from trtd.engines.table import BACKENDS
    from trtd.engines.tensorrt.flavours import FLAVOURS
    from trtd.spec.fields import COMMON_PRECISIONS, OWN_PRECISIONS, TARGETS

    found: dict[str, dict[str, str]] = {}
    for target in TARGETS:
        backend = BACKENDS[target]
        ahead = FLAVOURS[target].capabilities if target in FLAVOURS else ()
        here, later = backend.missing((), "fp32"), backend.missing(ahead, "fp32")
        found[target] = {
            "build": "" if here is None else here.message,
            "ahead_of_time": ", ".join(ahead) if ahead and later is None else "",
            "verify": backend.unverifiable(()),
            "only": "",
        }
        lacking = {p: backend.missing((), p) for p in OWN_PRECISIONS.get(target, COMMON_PRECISIONS)}
        if here is None and (why := next(filter(None, lacking.values()), None)):
            has = ", ".join(precision for precision, missing in lacking.items() if missing is None)
            found[target]["only"] = f"{has} alone: {why.message}"
    return found


def _gpus() -> dict[str, Any]:
    from dataclasses import asdict

    from trtd.engines.gpu import gpus

    return asdict(gpus())


def _hardware() -> dict[str, dict[str, dict[str, str]]]:
    """Per TensorRT and compute capability, this machine's or else all that it can build for: what computes how."""
    from trtd.engines.gpu import gpus
    from trtd.engines.hardware import hardware
    from trtd.engines.tensorrt.flavours import FLAVOURS

    found: dict[str, dict[str, dict[str, str]]] = {}
    for target, flavour in FLAVOURS.items():
        release = flavour.version()
        if release is None:
            continue
        capabilities = gpus().capabilities or flavour.capabilities
        rows = {capability: hardware(target, release, capability).support for capability in capabilities}
        found[f"{flavour.module} {release}"] = {capability: dict[str, str](row) for capability, row in rows.items()}
    return found


def _show_devices(screen: Screen) -> None:
    gpus = _gpus()
    for gpu in gpus["found"]:
        screen.line(
            f"GPU: {gpu['name']}, compute capability {gpu['capability']}, {gpu['memory_bytes'] / 2**30:.0f} GiB"
        )
    driver = f"driver {gpus['driver']}, CUDA up to {gpus['cuda']}" if gpus["found"] else f"none: {gpus['reason']}"
    screen.line(f"NVIDIA: {driver}")
    screen.line("targets:")
    for target, state in _targets().items():
        if not state["build"]:
            words = "builds here" + (f", and cannot verify: {state['verify']}" if state["verify"] else " and verifies")
            words += f", in {state['only']}" if state["only"] else ""
        elif state["ahead_of_time"]:
            words = f"builds ahead of time for {state['ahead_of_time']}; cannot verify here: {state['verify']}"
        else:
            words = f"cannot build: {state['build']}"
        screen.line(f"  {target:<16} {words}")
    for product, rows in _hardware().items():
        screen.line(f"{product} computes, by compute capability:")
        for capability, support in rows.items():
            said = ", ".join(f"{precision} {state}" for precision, state in support.items())
            screen.line(f"  {capability:<5} {said or 'unknown: NVIDIA does not list it, and nobody measured it'}")
        screen.line("  sources: NVIDIA's support matrices, and measurements (trtd/engines/hardware.py)", "dim")


def _advice(package: dict[str, Any]) -> str:
    return ADVICE.get(package["name"], "pip install --force-reinstall trtd")


def _probe() -> dict[str, Any]:
    """What the stage ``doctor`` found."""
    from trtd.pipeline.job import Job
    from trtd.pipeline.launch import launch

    with tempfile.TemporaryDirectory(prefix="trtd-doctor-") as folder:
        out = Path(folder) / "out"
        out.mkdir()
        try:
            result = launch(Job(stage="doctor", inputs={}, out=out, deadline_s=120), log=Path(folder) / "doctor.log")
        except StageError as error:  # a package took the process down with it
            taken = {"name": EVERYTHING, "version": None, "purpose": "all", "error": error.message}
            return {"packages": [taken], "paddle": None}
    return result.value
