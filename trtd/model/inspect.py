"""Facts of a source model, read from its files alone: no paddle, no onnx, nothing is run."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from trtd.errors import ModelError
from trtd.model import pir_facts
from trtd.model.facts import ModelFacts, ModelFormat
from trtd.model.params_file import Parameter, check_params
from trtd.model.source import ModelSource

_QUANTIZED_OP = re.compile(r"quantize|^QLinear|^QGemm$|Integer$", re.IGNORECASE)
_CHUNK_BYTES = 1 << 20


def read_facts(source: ModelSource) -> ModelFacts:
    """Read inputs, outputs, operators and the digest of a located model.

    Raises ``ModelError`` if a file is truncated, torn or hostile, if a declared tensor does not fit its data, or if
    the parameters are not those of the program.
    """
    try:
        if source.format == "onnx":
            from trtd.model import onnx_facts  # protobuf takes a while, and PIR does without

            graph = onnx_facts.read(source.model_file)
            inputs, outputs, ops, opset = graph.inputs, graph.outputs, graph.ops, graph.opset
        else:
            program = _read_program(source.model_file, source.format)
            inputs, outputs, ops, opset = program.inputs, program.outputs, program.ops, None
            if source.params_file is not None:
                check_params(source.params_file, program.parameters)
        _check_names([t.name for t in inputs], "inputs", source.model_file)
        _check_names([t.name for t in outputs], "outputs", source.model_file)
        return ModelFacts(
            format=source.format,
            files=source.files,
            inputs=inputs,
            outputs=outputs,
            ops=dict(sorted(ops.items())),
            opset=opset,
            digest=files_digest(source.files),
            quantized=any(_QUANTIZED_OP.search(op) for op in ops),
        )
    except OSError as error:
        raise ModelError(
            f"the model cannot be read: {error.strerror or error}",
            hint="Check that its files are still there and may be read.",
            where=str(source.model_file),
        ) from error


def declared_parameters(model_file: Path, format: ModelFormat) -> Mapping[str, Parameter]:
    """The parameters that a Paddle program declares, by name. Raises ``ModelError`` if it cannot be read."""
    return _read_program(model_file, format).parameters


def _read_program(model_file: Path, format: ModelFormat) -> pir_facts.ProgramFacts:
    if format == "paddle-pir":
        return pir_facts.read(model_file)
    from trtd.model import program_facts

    return program_facts.read(model_file)


def files_digest(files: Iterable[Path]) -> str:
    """``sha256:…`` over size and bytes of each of ``files``, in order: bytes cannot move from one file to the next."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(f"{os.fstat(stream.fileno()).st_size}\n".encode())
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _check_names(names: list[str], what: str, where: Path) -> None:
    if what == "outputs" and not names:
        raise ModelError(
            "the model has no outputs", hint="The file is truncated or was exported wrongly.", where=str(where)
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"several {what} are named '{twice[0]}'", hint="Export the model again.", where=str(where))
