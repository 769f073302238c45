"""A quantized Paddle model to a float graph in ONNX and the record of its scales."""

from __future__ import annotations

from pathlib import Path

from trtd.model.convert_open import to_open_onnx
from trtd.model.inspect import read_facts
from trtd.model.paddle_child import Log
from trtd.model.simplify import simplify
from trtd.model.source import ModelSource
from trtd.quantize.graph import load, save
from trtd.quantize.imported import QUANTIZATION_FILE, ImportedQuantization, write_quantization
from trtd.quantize.stitch import fold, record, stitch

FP32_FILE, FOLDED_FILE = "model.onnx", "folded.onnx"


def convert_quantized(source: ModelSource, out: Path, log: Log) -> tuple[ImportedQuantization, int]:
    """Convert a quantized Paddle model, without any calibration data.

    Writes to the folder ``out``:

    - ``model.onnx``: the float network with dequantized weights, constants and BatchNorm folded;
    - ``folded.onnx``: affine steps folded too, and an Identity wherever Paddle rounds an activation;
    - ``quantization.json``: the scales, for :mod:`trtd.quantize.insert_imported`.

    Returns what ``quantization.json`` holds, and how many affine steps were folded into weights.
    Raises what :func:`trtd.model.convert_open.to_open_onnx` raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    facts = read_facts(source)
    opened, closed = out / "open.onnx", out / "closed.onnx"
    scaled = to_open_onnx(source, opened, log)
    simplify(opened, closed)
    model = load(closed)
    stitched = stitch(model, scaled, len(facts.outputs))
    save(model, closed)
    simplify(closed, out / FP32_FILE)
    folded = fold(stitched)
    quantization = record(stitched, facts.digest)
    save(model, out / FOLDED_FILE)
    write_quantization(quantization, out / QUANTIZATION_FILE)
    for leftover in (*out.glob("open.onnx*"), *out.glob("closed.onnx*")):
        leftover.unlink()
    return quantization, folded
