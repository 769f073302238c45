"""Convert a source model to ONNX; runs inside a worker process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from trtd.errors import ConversionError, EnvironmentMissing
from trtd.model import export_errors
from trtd.model.converter import CONVERTER_PYTHON
from trtd.model.facts import ModelFacts
from trtd.model.inspect import read_facts
from trtd.model.onnx_file import INSIDE_LIMIT_BYTES
from trtd.model.pir import normalize
from trtd.model.pir_facts import load_program, operators
from trtd.model.source import ModelSource

Log = Callable[[str], None]

OPSET = 17
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


def to_onnx(source: ModelSource, out: Path, log: Log) -> None:
    """Write ``source`` as ONNX to ``out``, weights inside; those of ONNX models above 2 GiB go to ``out``.data.

    A Paddle model goes through PIR normalization (:mod:`trtd.model.pir`) and paddle2onnx at opset 17; paddle2onnx
    raises the opset by itself where an operator needs it (deformable convolution: 19). If an operator is unknown, one
    more attempt lets Paddle decompose composite operators first. Inputs and outputs keep the source model's names and
    order. An ONNX model is checked and copied; opsets below 13, which have no per-channel quantization, are raised.

    Raises ``ConversionError`` naming the operators that cannot be converted, ``ModelError`` if the source cannot be
    read, ``EnvironmentMissing`` if paddle, paddle2onnx or onnx are not installed.
    """
    facts = read_facts(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    if source.format == "onnx":
        _require_onnx()
        from trtd.model.onnx_source import copy_checked

        copy_checked(source.model_file, out, log)
        return
    if facts.quantized:
        raise ConversionError(
            "the model is already quantized: it holds quantize or dequantize operators",
            hint="Give the float model that it was made from; trtd calibrates and quantizes by itself.",
            where=str(source.model_file),
        )
    _require_onnx()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".converting-") as work:
        raw = _convert_paddle(source, Path(work), facts, log)
        from trtd.model.onnx_source import finish

        finish(raw, out, facts, log)


def _convert_paddle(source: ModelSource, work: Path, facts: ModelFacts, log: Log) -> Path:
    """Run translation, normalization and export in ``work``; returns the ONNX file as paddle2onnx wrote it."""
    program_file, params_file = source.model_file, source.params_file
    if params_file is not None and params_file.stat().st_size > INSIDE_LIMIT_BYTES:
        raise ConversionError(
            f"the parameters have {params_file.stat().st_size} bytes; paddle2onnx writes no models above 2 GiB",
            hint="Give an ONNX model with external data, exported by other means.",
            where=str(params_file),
        )
    if source.format == "paddle-program":
        log(f"translating {program_file.name} to PIR")
        _run(["translate", str(program_file), str(params_file or ""), str(work / "translated")], facts, source, log)
        program_file, params_file = work / "translated.json", work / "translated.pdiparams"
    program, applied = normalize(load_program(program_file))
    for rule, count in applied.items():
        log(f"PIR normalization: {rule}, {count} times")
    normalized = work / "normalized.json"
    normalized.write_text(json.dumps(program))
    if params_file is not None and params_file.exists():
        normalized.with_suffix(".pdiparams").symlink_to(params_file.resolve())
    raw = work / "raw.onnx"
    known = facts.model_copy(update={"ops": operators(program)})
    command = ["export", str(normalized), str(raw), str(OPSET)]
    try:
        _run(command, known, source, log)
    except ConversionError as first:
        log(f"{first.message}; trying again with Paddle's decomposition of composite operators")
        try:
            _run([*command, "--decompose"], known, source, log)
        except ConversionError:
            raise first from None
    return raw


def _run(arguments: list[str], facts: ModelFacts, source: ModelSource, log: Log) -> None:
    """Run one step as a child process; maps its death or its words to an error."""
    python = os.environ.get(CONVERTER_PYTHON) or sys.executable
    environment: Mapping[str, str] = {**os.environ, **_SETTINGS, "TRTD_PARENT": str(os.getpid())}
    try:
        done = subprocess.run(
            [python, str(_PROCESS), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise EnvironmentMissing(
            f"the interpreter for conversion cannot be started: {python} ({error.strerror})",
            hint=f"Set {CONVERTER_PYTHON} to a Python 3.10 to 3.12 with paddlepaddle and paddle2onnx, or unset it.",
        ) from error
    output = _COLOURS.sub("", done.stdout.decode("utf-8", "replace"))
    for line in output.splitlines():
        if line.strip():
            log(line)
    if done.returncode == _EXIT_ENVIRONMENT:
        raise _packages_missing(output.strip().splitlines()[-1], python)
    if done.returncode != 0 or not export_errors.wrote(arguments):
        raise export_errors.explain(arguments[0], done.returncode, output, facts, source.model_file)


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


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EnvironmentMissing(f"{error.name} is not installed", hint="pip install 'trtd[cpu]'") from error
