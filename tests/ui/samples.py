"""Reports and a calibration table as a build leaves them, hostile ones, and a stand-in terminal."""

from __future__ import annotations

import io
import math
import re

import numpy as np

from trtd.calibrate.table import METHODS, CalibrationTable, Method, TensorRange
from trtd.verify.report import Fidelity, Gate, Latency, OutputErrors, Report, TaskMetric, TensorError

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m[bold]\u202e'\"&"
OPS = ("Conv", "Relu", "Add", "HardSigmoid", "Mul", "MatMul", "Concat", "Resize")


def latency(mean_ms: float, seed: int) -> Latency:
    """50 runs with the right-skewed spread that timing has, and one outlier."""
    samples = mean_ms * (0.94 + np.random.default_rng(seed).gamma(1.5, 0.04, 50))
    samples[17] *= 1.6
    return Latency(
        runs=50,
        batch=1,
        p50_ms=float(np.percentile(samples, 50)),
        p99_ms=float(np.percentile(samples, 99)),
        mean_ms=float(samples.mean()),
        items_per_s=1000 / float(samples.mean()),
        samples_ms=tuple(samples.tolist()),
    )


def tensor_range(values: np.ndarray) -> TensorRange:
    """Observe ``values`` (any shape) as a streaming observer would: power-of-two bins, about 2,000 of them."""
    low, high = float(values.min()), float(values.max())
    width = 2.0 ** math.ceil(math.log2(max(high - low, 1e-6) / 2048))
    indices = np.floor(values.ravel() / width).astype(np.int64)
    first = int(indices.min())
    keep = {"minmax": 0.0, "entropy": 0.4, "percentile": 0.01, "mse": 0.1}
    ranges: dict[Method, tuple[float, float]] = {
        method: (
            min(float(np.percentile(values, keep[method])), 0.0),
            max(float(np.percentile(values, 100 - keep[method])), 0.0),
        )
        for method in METHODS
    }
    return TensorRange(
        min=low,
        max=high,
        values=values.size * 64,
        bin_width=width,
        first_bin=first,
        counts=tuple((np.bincount(indices - first) * 64).tolist()),
        amax={method: max(-low, high) for method, (low, high) in ranges.items()},
        range=ranges,
    )


def make_table(tensors: int = 200) -> CalibrationTable:
    """Tensors of the shapes that activations have: bell, ReLU, long-tailed, bounded, bimodal."""
    random = np.random.default_rng(7)
    found = {}
    for index in range(tensors):
        scale = float(random.lognormal(0, 1.2))
        bell = random.normal(0, scale, 20_000)
        shapes = (
            bell,
            np.maximum(bell, 0),
            random.standard_t(3, 20_000) * scale,
            random.beta(0.3, 0.9, 20_000),
            np.where(random.random(20_000) < 0.7, bell, bell * 0.3 + 4 * scale),
            random.gamma(1.2, scale, 20_000) - 0.2 * scale,
        )
        found[f"p2o.pd_op.{OPS[index % 8].lower()}.{index}.0"] = tensor_range(shapes[index % len(shapes)])
    return CalibrationTable(
        model_digest="sha256:" + "3f" * 32,
        set_digest="sha256:" + "a1" * 32,
        samples=64,
        percentile=99.99,
        tensors=found,
    )


def make_report(name: str = "ppocr-det", *, missed: bool = False, metric: TaskMetric | None = None) -> Report:
    """An INT8 detection engine; ``missed`` lets one fidelity gate fail."""
    random = np.random.default_rng(3)
    output = "sigmoid_0.tmp_0"
    counts, edges = np.histogram(random.standard_t(2.5, 200_000) * 0.004, bins=121, range=(-0.2, 0.2))
    sqnr = 17.26 if missed else 27.43
    gates = (
        Gate(name="cosine", output=output, comparison=">=", bound=0.99, measured=0.998712, passed=True),
        Gate(
            name="sqnr_db",
            output=output,
            comparison=">=",
            bound=20.0,
            measured=sqnr,
            passed=not missed,
            advice="The largest error enters at p2o.pd_op.conv2d.12.0 (Conv). Keep it in float: "
            'quantization.exclude = ["Conv_12"], or try method = "mse".'
            if missed
            else "",
        ),
        Gate(name="relative_l2", output=output, comparison="<=", bound=0.1, measured=0.042515, passed=True),
        Gate(name="min_speedup", output="", comparison=">=", bound=1.0, measured=2.612, passed=True),
    )
    decibels = np.sort(random.gamma(6, 4.2, 60)) + 6
    worst = tuple(
        TensorError(
            tensor=f"p2o.pd_op.{OPS[(index * 3) % 8].lower()}.{index * 3 % 200}.0",
            node=f"{OPS[(index * 3) % 8]}_{index * 3 % 200}",
            op=OPS[(index * 3) % 8],
            sqnr_db=float(value),
        )
        for index, value in enumerate(decibels)
    )
    engine, fp32 = latency(47.3, 1), latency(123.6, 2)
    return Report(
        name=name,
        target="onnxruntime-cpu",
        precision="int8",
        proof="verified",
        reference="paddle 3.3.1 fp32",
        items=24,
        fidelity={
            output: Fidelity(
                elements=5_529_600, cosine=0.998712, sqnr_db=sqnr, relative_l2=0.042515, max_abs_error=0.19312
            )
        },
        conversion={
            output: Fidelity(
                elements=5_529_600, cosine=0.99999999999, sqnr_db=118.2, relative_l2=1.23e-6, max_abs_error=4.1e-6
            )
        },
        engine_latency=engine,
        fp32_latency=fp32,
        speedup=fp32.p50_ms / engine.p50_ms,
        engine_bytes=2_631_224,
        fp32_bytes=9_742_118,
        gates=gates,
        worst_tensors=worst,
        output_errors={output: OutputErrors(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))},
        metric=metric,
        notes=("Held-out data was split from calibration.data: 24 items, none of them used for calibration.",),
        tools={"trtd": "0.1.0", "onnxruntime": "1.32.0", "paddlepaddle": "3.3.1", "paddle2onnx": "2.1.0"},
    )


def make_hostile() -> Report:
    """Every piece of text is markup, escape codes or control characters; every number that can be is not one."""
    report = make_report(missed=True)
    nan = Fidelity(elements=0, cosine=math.nan, sqnr_db=math.nan, relative_l2=math.inf, max_abs_error=math.inf)
    return report.model_copy(
        update={
            "name": HOSTILE,
            "target": HOSTILE,
            "reference": HOSTILE,
            "fidelity": {HOSTILE: nan},
            "conversion": {},
            "gates": tuple(gate.model_copy(update={"output": HOSTILE, "advice": HOSTILE}) for gate in report.gates),
            "worst_tensors": (TensorError(tensor=HOSTILE, node=HOSTILE, op=HOSTILE, sqnr_db=math.nan),),
            "output_errors": {HOSTILE: OutputErrors(edges=(0.0, math.nan, math.inf), counts=(1, 2))},
            "notes": (HOSTILE,),
            "tools": {HOSTILE: HOSTILE},
            "speedup": math.nan,
        }
    )


class Terminal(io.TextIOWrapper):
    """A stand-in for a terminal: one as far as ``isatty`` and ``encoding`` tell."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    def getvalue(self) -> str:
        return self.bytes.getvalue().decode(self.encoding)
