"""Run one step of :mod:`trtd.model.paddle_process` in the interpreter that has paddle, and hear what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trtd.errors import EnvironmentMissing
from trtd.model.converter import CONVERTER_PYTHON

Log = Callable[[str], None]

_EXIT_ENVIRONMENT = 4
_PROCESS = Path(__file__).with_name("paddle_process")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SETTINGS = {
    "POLYGRAPHY_AUTOINSTALL_DEPS": "0",  # else paddle2onnx's optimizer installs packages with pip
    "GLOG_minloglevel": "2",
    "FLAGS_enable_pir_api": "1",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "",
}


def run_step(arguments: Sequence[str], log: Log, settings: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a step to its end; returns its exit code (negative: the signal that killed it) and all that it printed.

    Args:
        arguments: of ``paddle_process``.
        log: called with each line as it is printed.
        settings: environment variables besides those that every step gets.

    Raises ``EnvironmentMissing`` if the interpreter cannot be started or lacks a package.
    """
    python = os.environ.get(CONVERTER_PYTHON) or sys.executable
    environment = {**os.environ, **_SETTINGS, **(settings or {}), "TRTD_PARENT": str(os.getpid())}
    lines = []
    try:
        with subprocess.Popen(
            [python, str(_PROCESS), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as child:
            assert child.stdout is not None
            for printed in child.stdout:  # universal newlines: a carriage return ends a line as well
                line = _COLOURS.sub("", printed).rstrip()
                if line.strip():
                    lines.append(line)
                    log(line)
            code = child.wait()
    except OSError as error:
        raise EnvironmentMissing(
            f"the interpreter for conversion cannot be started: {python} ({error.strerror})",
            hint=f"Set {CONVERTER_PYTHON} to a Python 3.10 to 3.12 with paddlepaddle and paddle2onnx, or unset it.",
        ) from error
    if code == _EXIT_ENVIRONMENT:
        raise _packages_missing(lines[-1], python)
    return code, "\n".join(lines)


def _packages_missing(reason: str, python: str) -> EnvironmentMissing:
    hint = "Install them: pip install 'trtd[cpu]'."
    if python == sys.executable and sys.version_info >= (3, 13):
        hint = (
            f"paddle2onnx has no release for Python {sys.version_info.major}.{sys.version_info.minor}. Let an older "
            "interpreter convert: python3.11 -m venv convert && convert/bin/pip install paddlepaddle paddle2onnx "
            "setuptools packaging "
            f"&& export {CONVERTER_PYTHON}=$PWD/convert/bin/python; or give an ONNX model."
        )
    return EnvironmentMissing(
        f"converting a Paddle model needs paddlepaddle and paddle2onnx: {reason}", hint=hint, where=python
    )
