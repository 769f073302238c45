"""Source model to float ONNX: the FP32 engine, and beside it the graph that quantization starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.errors import ConversionError, ModelError
from trtd.model.convert import to_onnx
from trtd.model.facts import ModelFacts
from trtd.model.inspect import files_digest
from trtd.model.simplify import simplify
from trtd.pipeline.contracts import FOLDED_FILE, FP32_FILE, ConvertInputs, ConvertResult
from trtd.pipeline.progress import Progress
from trtd.quantize.fold import fold_affine, fold_residual_gates
from trtd.quantize.graph import load, save
from trtd.quantize.paddle_import import convert_quantized


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``model.onnx`` (constants and BatchNorm folded) and ``folded.onnx`` (affine steps folded too).

    Of a quantized model, with its weights in float, and its scales in ``quantization.json``.
    """
    job = ConvertInputs.model_validate(inputs)
    folded = _convert_quantized(job, out, progress) if job.facts.quantized else _convert(job, out, progress)
    if files_digest(job.source.files) != job.facts.digest:
        raise ModelError(
            "the model changed while it was being converted",
            where=str(job.source.model_file),
            hint="run the command again once nobody writes there any more",
        )
    runner = OnnxRuntimeRunner(out / FP32_FILE)
    _check_signature(job.facts, runner)
    progress(3, 3, "")
    return ConvertResult(inputs=runner.inputs, outputs=runner.outputs, folded=folded).model_dump(mode="json")


def _convert(job: ConvertInputs, out: Path, progress: Progress) -> int:
    """How many affine steps were folded into weights."""
    converted = out / "converted.onnx"
    progress(0, 3, "to ONNX")
    to_onnx(job.source, converted, progress.log)
    progress(1, 3, "fold constants and BatchNorm")
    simplify(converted, out / FP32_FILE)
    for leftover in out.glob("converted.onnx*"):
        leftover.unlink()
    progress(2, 3, "fold affine steps")
    model = load(out / FP32_FILE)
    folded = fold_affine(model) + fold_residual_gates(model)
    save(model, out / FOLDED_FILE)
    return folded


def _convert_quantized(job: ConvertInputs, out: Path, progress: Progress) -> int:
    progress(0, 3, "to ONNX, with the model's own scales")
    return convert_quantized(job.source, out, progress.log)[1]


def _check_signature(facts: ModelFacts, runner: OnnxRuntimeRunner) -> None:
    source, converted = {i.name for i in facts.inputs}, {i.name for i in runner.inputs}
    if source != converted:
        raise ConversionError(
            f"conversion changed the inputs from {sorted(source)} to {sorted(converted)}",
            hint="an input that the outputs do not depend on was dropped: export the model without it",
        )
