"""What is measured, each in a process of its own (:func:`trtd.pipeline.launch.launch`), so that peaks are its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trtd.calibrate.items import Batch
from trtd.calibrate.table import read_table
from trtd.engines.cpu import cpu_facts
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.reference import open_reference
from trtd.pipeline.contracts import FOLDED_FILE, FP32_FILE, CalibrateInputs, ReferenceInputs
from trtd.pipeline.feed import Feed
from trtd.pipeline.progress import Progress
from trtd.pipeline.stages import calibrate
from trtd.quantize.graph import load, save
from trtd.quantize.qdq import insert_qdq
from trtd.quantize.targets import onnxruntime_cpu
from trtd.verify.compare import compare
from trtd.verify.latency import side_by_side
from trtd.verify.report import Latency

MASK_THRESHOLD = 0.3


def plain_inference(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """FP32 over the calibration items, images read as calibration reads them, no extra outputs."""
    job = CalibrateInputs.model_validate(inputs)
    start = time.perf_counter()
    runner = OnnxRuntimeRunner(job.converted / FP32_FILE, threads=job.threads)
    for batch in _pages(job):
        runner.run(batch.feeds)
    return {"seconds": time.perf_counter() - start}


def _pages(job: CalibrateInputs) -> Iterator[Batch]:
    assert job.calibration is not None
    return job.calibration.batches(job.batch)


def trtd_calibration(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """trtd's calibrate stage as a build runs it, table of all four methods included."""
    start = time.perf_counter()
    calibrate.run(inputs, out, progress)
    return {"seconds": time.perf_counter() - start}


def onnxruntime_calibration(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """onnxruntime's own static quantization, entropy method, on the same items."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    job = CalibrateInputs.model_validate(inputs)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self._batches = _pages(job)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else batch.feeds

    start = time.perf_counter()
    quantize_static(
        str(job.converted / FP32_FILE),
        str(out / "quantized.onnx"),
        Reader(),
        calibrate_method=CalibrationMethod.Entropy,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return {"seconds": time.perf_counter() - start}


def paddle_inference(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Median latency of the original model in Paddle Inference, FP32, on the first held-out items."""
    job = ReferenceInputs.model_validate(inputs)
    runner = open_reference(job.source, job.facts, threads=job.threads)
    feeds = [batch.feeds for batch in islice(job.heldout.batches(), 4)]
    times = []
    for i in range(14):
        start = time.perf_counter()
        runner.run(feeds[i % len(feeds)])
        times.append(time.perf_counter() - start)
    return {"p50_ms": float(np.median(times[2:])) * 1e3}


def mask_iou(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Intersection over union of the text mask of two engines (``engine`` against ``fp32``) over held-out pages."""
    feed = Feed.model_validate(inputs["heldout"])
    runners = [OnnxRuntimeRunner(Path(inputs[key])) for key in ("engine", "fp32")]
    both = either = 0
    for feeds in _feeds(feed):
        found, wanted = (next(iter(r.run(feeds).values())) > MASK_THRESHOLD for r in runners)
        both += int(np.count_nonzero(found & wanted))
        either += int(np.count_nonzero(found | wanted))
    return {"iou": both / either if either else float("nan")}


def placements(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """INT8 by one table and several placements: speed beside FP32, interleaved, and fidelity to FP32."""
    table = read_table(Path(inputs["table"]))
    converted, feed = Path(inputs["converted"]), Feed.model_validate(inputs["heldout"])
    best = onnxruntime_cpu(vnni=cpu_facts().vnni)
    in_place = replace(best, weighted=best.weighted - {"ConvTranspose"}, channels_last=False)
    bare = replace(in_place, joins=frozenset(), gates=frozenset(), views=frozenset())
    variants = {
        "weighted operators only, int8 activations": replace(bare, activation="int8"),
        "weighted operators only": bare,
        "and views, Concat": replace(bare, joins=frozenset({"Concat"}), views=best.views),
        "and gates (hard-swish)": replace(in_place, joins=frozenset({"Concat", "Mul"})),
        "and Add, pooling": in_place,
        "and upsampling as copies of rows: what trtd builds": best,
    }
    fp32 = OnnxRuntimeRunner(converted / FP32_FILE)
    folded = OnnxRuntimeRunner(converted / FOLDED_FILE)
    timed = side_by_side({"folded": folded, "fp32": fp32}, feed.timing_feeds(1), runs=60)
    beside = _beside(timed["folded"], timed["fp32"])
    rows = [{"8-bit": "none: FP32 as trtd builds it", **beside, "relative L2": 0.0}]
    for name, placement in progress.track(variants.items(), len(variants), "placements"):
        model = load(converted / FOLDED_FILE)
        insert_qdq(model, table, placement, method=inputs["method"])
        save(model, out / "model.onnx")
        engine = OnnxRuntimeRunner(out / "model.onnx")
        timed = side_by_side({"engine": engine, "fp32": fp32}, feed.timing_feeds(1), runs=60)
        compared = compare(engine, fp32, feed.batches(), lambda n: list(fp32.run(nth(feed, n)).values()))
        fidelity = next(iter(compared.fidelity().values()))
        rows.append(
            {"8-bit": name, **_beside(timed["engine"], timed["fp32"]), "relative L2": round(fidelity.relative_l2, 3)}
        )
    return {"rows": rows}


def _beside(ours: Latency, plain: Latency) -> dict[str, float]:
    return {"ms": round(ours.p50_ms, 2), "speedup": round(plain.p50_ms / ours.p50_ms, 2)}


def nth(feed: Feed, number: int) -> dict[str, Any]:
    """Feeds of held-out batch ``number``."""
    return next(islice(_feeds(feed), number, None))


def _feeds(feed: Feed) -> Iterator[dict[str, Any]]:
    for batch in feed.batches():
        yield batch.feeds
