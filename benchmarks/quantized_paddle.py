"""How exactly quantized Paddle models are imported, and what that is worth on this CPU.

    python -m benchmarks.quantized_paddle [NAME ...]     # writes docs/reference/quantized-paddle.md

Each model is quantized by Paddle (``paddle-ptq``, algorithm hist), run by Paddle as it is, imported, and run by
onnxruntime. Three comparisons, in relative L2:

*Steps*: every part between two roundings gets Paddle's own rounded values; the worst of all parts, and the share of
values that then round to another step. *Whole*: the imported model with Paddle's placement against Paddle's run.
*Paddle*: Paddle's oneDNN kernels against its native ones, the same program twice: where sums differ in their last bits,
a rounding falls the other way here and there, and how far that spreads is the network's doing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from trtd.engines.cpu import cpu_facts
from trtd.model.locate import locate
from trtd.model.paddle_ptq import PtqOptions, produce_ptq
from trtd.quantize.graph import load, save
from trtd.quantize.imported import ImportedQuantization
from trtd.quantize.insert_imported import insert_as_paddle, insert_imported
from trtd.quantize.paddle_import import FOLDED_FILE, FP32_FILE, convert_quantized
from trtd.quantize.tap import supply
from trtd.quantize.targets import onnxruntime_cpu

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "benchmarks" / ".cache" / "quantized"
PAGE = ROOT / "docs" / "reference" / "quantized-paddle.md"
PAGES, PTQ_BATCHES, HELDOUT, RUNS = 24, 12, 4, 15

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model and its data: batches to calibrate on, items to judge on."""

    name: str
    what: str
    feed: str
    make: Callable[[Path], Path]
    data: Callable[[], tuple[list[Array], Array]]


def _exported(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _paddle("export", name, folder)
        return folder

    return make


def _pages(folder: Path) -> Path:
    script = ROOT / "specs" / "ppocr-det" / "prepare.py"
    command = [sys.executable, str(script), "--pages", str(PAGES), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "model"


def _page_data() -> tuple[list[Array], Array]:
    from PIL import Image

    mean, spread = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    items = []
    for file in sorted((CACHE / "ppocr-det" / "pages").glob("*.png"))[: PTQ_BATCHES + HELDOUT]:
        image = Image.open(file).convert("RGB").resize((480, 480))
        pixels = np.asarray(image, np.float32)[:, :, ::-1] / 255
        items.append(((pixels - mean) / spread).transpose(2, 0, 1).astype(np.float32)[np.newaxis])
    return items[:PTQ_BATCHES], np.concatenate(items[PTQ_BATCHES:])


def _digit_data() -> tuple[list[Array], Array]:
    folder = ROOT / "specs" / "digits"
    images = np.load(folder / "calibration.npy").astype(np.float32)
    return np.split(images[: PTQ_BATCHES * 32], PTQ_BATCHES), np.load(folder / "heldout.npy")[:32].astype(np.float32)


def _noise() -> tuple[list[Array], Array]:
    random = np.random.default_rng(1)
    batches = [random.standard_normal((2, 3, 224, 224)).astype(np.float32) for _ in range(4)]
    return batches, random.standard_normal((HELDOUT, 3, 224, 224)).astype(np.float32)


CASES = [
    Case("digits", "trained, specs/digits", "image", _exported("digits"), _digit_data),
    Case("ppocr-det", "trained, PP-OCRv4 detection", "x", _pages, _page_data),
    Case("resnet18", "random weights", "x", _exported("resnet18"), _noise),
    Case("mobilenet_v3_small", "random weights", "x", _exported("mobilenet_v3_small"), _noise),
]


def measure(case: Case) -> dict[str, Any]:
    """One row of the page."""
    folder = CACHE / case.name
    folder.mkdir(parents=True, exist_ok=True)
    float_model = case.make(folder)
    batches, heldout = case.data()
    quantized = produce_ptq(
        locate(float_model), ({case.feed: batch} for batch in batches), folder / "ptq", PtqOptions(), _quiet, _quiet
    )
    feeds: dict[str, Any] = {case.feed: heldout}
    np.savez(folder / "feeds.npz", **feeds)
    paddle = {}
    for name, model in (("float", float_model), ("quantized", quantized.model_file.parent)):
        _paddle("run", model, folder / "feeds.npz", folder / f"{name}.npz")
        paddle[name] = dict(np.load(folder / f"{name}.npz"))
    imported, _ = convert_quantized(quantized, folder / "onnx", _quiet)
    engines = _engines(folder / "onnx", imported)
    exact = engines["as Paddle, int8"]
    truth, plain = paddle["quantized"]["native"], paddle["float"]["native"]
    worst, moved = _steps(folder / "onnx", imported, paddle["quantized"], {case.feed: heldout[:1]})
    times = _times(list(engines.values()), case.feed, heldout[:1])
    return {
        "model": case.name,
        "what": case.what,
        "rounded": len(imported.activations),
        "weights": len(imported.weights),
        "steps": worst,
        "moved": moved,
        "whole": _relative_l2(truth, _run(exact, case.feed, heldout, plain=True)),
        "fused": _relative_l2(truth, _run(exact, case.feed, heldout)),
        "paddle": _relative_l2(truth, paddle["quantized"]["onednn"]),
        "rounding": _relative_l2(plain, truth),
        "placed": _relative_l2(plain, _run(engines["placed, uint8"], case.feed, heldout)),
        "ms": {name: round(time_ms, 2) for name, time_ms in zip(engines, times, strict=True)},
    }


def _engines(folder: Path, imported: ImportedQuantization) -> dict[str, Path]:
    vnni = cpu_facts().vnni
    made = {"FP32": folder / FP32_FILE}
    for kind in ("int8", "uint8"):
        for how in ("as Paddle", "placed"):
            model, file = load(folder / FOLDED_FILE), folder / f"{how.replace(' ', '-')}-{kind}.onnx"
            if how == "placed":
                insert_imported(model, imported, onnxruntime_cpu(vnni=vnni, activation=kind))
            else:
                insert_as_paddle(model, imported, kind)
            save(model, file)
            made[f"{how}, {kind}"] = file
    return made


def _steps(
    folder: Path, imported: ImportedQuantization, paddle: dict[str, Array], feeds: dict[str, Array]
) -> tuple[float, float]:
    """Worst relative L2 of a part, and the share of values that round to another step than in Paddle."""
    model = load(folder / FOLDED_FILE)
    supplied = supply(model, insert_as_paddle(model, imported).tensors.values())
    written = dict(zip((each.tensor for each in imported.activations), supplied.values(), strict=True))
    inner = {each.tensor: each for each in imported.activations if each.tensor not in feeds}
    for each in imported.activations:
        steps = np.float32(127) * (np.float32(1) / np.float32(each.amax)) * paddle[f"rounded:{each.parameter}"]
        feeds[written[each.tensor]] = np.clip(np.rint(steps), -128, 127) * np.float32(each.amax) / np.float32(127)
    model.graph.outputs.extend(v for node in model.graph for v in node.outputs if v.name in inner)
    save(model, folder / "steps.onnx")
    results = _session(folder / "steps.onnx", plain=True).run(list(inner), feeds)
    worst, moved, values = 0.0, 0, 0
    for each, result in zip(inner.values(), results, strict=True):
        truth = paddle[f"rounded:{each.parameter}"]
        worst = max(worst, _relative_l2(truth, result))
        before, after = (np.rint(a / each.amax * 127).clip(-128, 127) for a in (truth, result))
        moved, values = moved + int((before != after).sum()), values + truth.size
    return worst, moved / values


def _times(files: list[Path], feed: str, item: Array) -> list[float]:
    """Median latency of each in ms, interleaved."""
    sessions = [_session(file) for file in files]
    samples: list[list[float]] = [[] for _ in files]
    for _ in range(RUNS + 1):
        for session, kept in zip(sessions, samples, strict=True):
            started = time.perf_counter()
            session.run(None, {feed: item})
            kept.append(time.perf_counter() - started)
    return [float(np.median(kept[1:])) * 1e3 for kept in samples]


def _run(file: Path, feed: str, items: Array, *, plain: bool = False) -> Array:
    session = _session(file, plain=plain)
    return np.concatenate([session.run(None, {feed: item[np.newaxis]})[0] for item in items])


def _session(file: Path, *, plain: bool = False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _relative_l2(reference: Array, found: Array) -> float:
    x, y = reference.astype(np.float64), found.astype(np.float64)
    return float(np.linalg.norm(x - y) / np.linalg.norm(x))


def _paddle(*arguments: str | Path) -> None:
    environment = os.environ | {"FLAGS_enable_pir_api": "0", "GLOG_minloglevel": "3"}
    command = [sys.executable, "-m", "benchmarks.quantized_jobs", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def _quiet(*words: object) -> None:
    """Logs and progress that nobody reads."""


def page(rows: list[dict[str, Any]]) -> str:
    """The results as a page."""
    from importlib.metadata import version

    tools = ", ".join(f"{name} {version(name)}" for name in ("paddlepaddle", "paddle2onnx", "onnxruntime"))
    lines = [
        "# Quantized Paddle models: how exactly they are imported",
        "",
        f"Generated by `python -m benchmarks.quantized_paddle`; do not edit. {tools}, {cpu_facts().model}.",
        "",
        "Relative L2 on held-out items. **steps**: every part between two roundings, given Paddle's own rounded",
        "values, the worst of all; **moved**: the share of values that then round to another step. **whole**: the",
        "imported model with Paddle's placement against Paddle's run, operator by operator; **fused**: the same with",
        "onnxruntime's optimizer, which rounds biases to int32 for its 8-bit kernels. **Paddle**: Paddle's oneDNN",
        "kernels against its native ones, the same program. **rounding**: Paddle's quantized model against its float",
        "one: what quantization costs to begin with. **placed**: the imported scales where onnxruntime-cpu wants them",
        "(uint8), against the float model.",
        "",
        "| model | | rounded activations, weights | steps | moved | whole | fused | Paddle | rounding | placed |",
        f"|{' --- |' * 10}",
    ]
    for row in rows:
        numbers = [f"{row[key]:.1e}" for key in ("steps", "moved", "whole", "fused", "paddle", "rounding", "placed")]
        cells = [row["model"], row["what"], f"{row['rounded']}, {row['weights']}", *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    names = list(rows[0]["ms"])
    lines += [
        "",
        f"Median latency of one item in ms, {len(os.sched_getaffinity(0))} threads, interleaved:",
        "",
        f"| model | {' | '.join(names)} |",
        f"|{' --- |' * (len(names) + 1)}",
    ]
    lines += [f"| {row['model']} | {' | '.join(str(row['ms'][name]) for name in names)} |" for row in rows]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(case.name for case in CASES)}")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        if not options.names or case.name in options.names:
            rows.append(measure(case))
            print(json.dumps(rows[-1]), flush=True)
    if not options.names:
        PAGE.write_text(page(rows))
        PAGE.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
