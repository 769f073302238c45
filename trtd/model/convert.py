"""Convert a source model to ONNX; runs inside a worker process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from trtd.errors import ConversionError, EnvironmentMissing
from trtd.model import export_errors
from trtd.model.facts import ModelFacts
from trtd.model.inspect import read_facts
from trtd.model.onnx_file import INSIDE_LIMIT_BYTES
from trtd.model.paddle_child import Log, run_step
from trtd.model.pir import normalize
from trtd.model.pir_facts import Program, load_program, operators
from trtd.model.source import ModelSource

OPSET = 17


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
        require_onnx()
        from trtd.model.onnx_source import copy_checked

        copy_checked(source.model_file, out, log)
        return
    if facts.quantized:
        raise ConversionError(
            "the model is already quantized: it holds quantize or dequantize operators",
            hint="Give the float model that it was made from; trtd calibrates and quantizes by itself.",
            where=str(source.model_file),
        )
    require_onnx()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".converting-") as work:
        raw = _convert_paddle(source, Path(work), facts, log)
        from trtd.model.onnx_source import finish

        finish(raw, out, facts, log)


def _convert_paddle(source: ModelSource, work: Path, facts: ModelFacts, log: Log) -> Path:
    """Run translation, normalization and export in ``work``; returns the ONNX file as paddle2onnx wrote it."""
    program, params_file = as_pir(source, work, facts, log)
    return export(program, params_file, source, work, facts, log)


def as_pir(source: ModelSource, work: Path, facts: ModelFacts, log: Log) -> tuple[Program, Path | None]:
    """The program in PIR and its parameters; an older program is translated by Paddle, into ``work``."""
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
    return load_program(program_file), params_file


def export(
    program: Program, params_file: Path | None, source: ModelSource, work: Path, facts: ModelFacts, log: Log
) -> Path:
    """Normalize ``program`` and let paddle2onnx write it to a file in ``work``, which is returned."""
    program, applied = normalize(program)
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
    code, output = run_step(arguments, log)
    if code != 0 or not export_errors.wrote(arguments):
        raise export_errors.explain(arguments[0], code, output, facts, source.model_file)


def require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EnvironmentMissing(f"{error.name} is not installed", hint="pip install 'trtd[cpu]'") from error
