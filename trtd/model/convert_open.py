"""Convert a quantized Paddle model: its float network to ONNX, with open ends where it rounds, and its scales."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trtd.errors import ConversionError
from trtd.model.convert import as_pir, export, require_onnx
from trtd.model.facts import ModelFacts
from trtd.model.inspect import read_facts
from trtd.model.paddle_child import Log
from trtd.model.paddle_scales import Scaled, read_scales
from trtd.model.params_values import copy_values
from trtd.model.pir_cut import cut
from trtd.model.pir_facts import stored_parameters
from trtd.model.source import ModelSource


def to_open_onnx(source: ModelSource, out: Path, log: Log) -> list[Scaled]:
    """Write the float network of a quantized Paddle model to ``out``; returns what is rounded and with which scales.

    The graph has the model's own inputs and outputs and, behind them, one input for each rounded activation and each
    rounded weight, and one output for each activation that is rounded or was observed: see :mod:`trtd.model.pir_cut`.

    Raises ``ConversionError`` for what cannot be imported, ``ModelError`` if the model or its scales are damaged,
    ``EnvironmentMissing`` if paddle, paddle2onnx or onnx are not installed.
    """
    facts = read_facts(source)
    require_importable(facts)
    require_onnx()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".converting-") as name:
        work = Path(name)
        program, params_file = as_pir(source, work, facts, log)
        assert params_file is not None, "scales are parameters, and the check above has found quantize operators"
        opened = cut(program, [tensor.name for tensor in facts.outputs])
        declared = stored_parameters(program)
        scaled = read_scales(opened.cuts, params_file, declared)
        kept = work / "float.pdiparams"
        copy_values(params_file, declared, opened.parameters, kept)
        raw = export(opened.program, kept, source, work, facts, log)
        from trtd.model.onnx_source import finish

        ends = {"inputs": (*facts.inputs, *opened.inputs), "outputs": (*facts.outputs, *opened.outputs)}
        finish(raw, out, facts.model_copy(update=ends), log)
    counts = {kind: sum(each.cut.kind == kind for each in scaled) for kind in ("rounded", "weight", "observed")}
    log(
        f"quantized by Paddle: {counts['weight']} weights and {counts['rounded']} activations rounded to 8 bits, "
        f"{counts['observed']} activations observed"
    )
    return scaled


def require_importable(facts: ModelFacts) -> None:
    """Raise ``ConversionError`` unless the model is a Paddle model in the form that can be imported."""
    where = str(facts.files[0])
    older = sorted(op for op in facts.ops if op.startswith("fake_"))
    if older:
        raise ConversionError(
            f"the model is quantized in Paddle's older form: it holds {', '.join(older)}",
            hint="Export it again with onnx_format=True: an argument of PostTrainingQuantization, ImperativeQuantAware "
            "and PaddleSlim's quant_post_static, a key of the config of its quant_aware and convert. A model of "
            "paddle.quantization must go through convert(model) before paddle.jit.save.",
            where=where,
        )
    if facts.format == "onnx" or not {"quantize_linear", "dequantize_linear"} & set(facts.ops):
        raise ConversionError(
            "this is no quantized Paddle model: it holds neither quantize_linear nor dequantize_linear",
            hint="Convert it as a float model, and let trtd calibrate it.",
            where=where,
        )
