"""Gates: what must hold before an engine is published.

Defaults, used wherever the spec is silent:

=========  ==============  ===========  ====================================  ====================
precision  cosine          relative_l2  top1_agreement (probabilities only)   min_speedup
=========  ==============  ===========  ====================================  ====================
fp32       0.9999          1e-3         0.999                                 none
tf32       0.9999          1e-2         0.999                                 none
fp16       0.999           0.05         0.99                                  1.0 on GPUs, else none
bf16       0.995           0.1          0.99                                  1.0 on GPUs, else none
int8       0.99            0.3          0.99                                  1.0
=========  ==============  ===========  ====================================  ====================

TF32 is FP32 whose products are rounded to 10 bits of mantissa first: TensorRT-RTX computes FP32 so, and TensorRT where
the spec lets it. PP-OCRv4 detection is off by 2e-3 then (``benchmarks/results/h200.md``).

Cosine alone does not see a wrong scale, relative L2 does. Top-1 agreement is asked of outputs by default only where
each row of the reference is a distribution over classes: embeddings and regressions have rows too. FP16 has no speed
gate on the CPU, where it halves the file and gains no time; on a GPU it may be slower than FP32 for small batches. A
gate that compared nothing has failed, and NaN has failed: both comparisons below are false for NaN. Speed is judged
only where the engine ran on its target: an emulated one has not, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trtd.spec.schema import Gates
from trtd.verify.report import Fidelity, Gate, TaskMetric, TensorError

Comparison = Literal[">=", "<="]

FIDELITY_GATES: dict[str, Comparison] = {
    "cosine": ">=",
    "sqnr_db": ">=",
    "relative_l2": "<=",
    "max_abs_error": "<=",
    "top1_agreement": ">=",
}

DEFAULTS: dict[str, dict[str, float]] = {
    "fp32": {"cosine": 0.9999, "relative_l2": 1e-3, "top1_agreement": 0.999},
    "tf32": {"cosine": 0.9999, "relative_l2": 1e-2, "top1_agreement": 0.999},
    "fp16": {"cosine": 0.999, "relative_l2": 0.05, "top1_agreement": 0.99},
    "bf16": {"cosine": 0.995, "relative_l2": 0.1, "top1_agreement": 0.99},
    "int8": {"cosine": 0.99, "relative_l2": 0.3, "top1_agreement": 0.99, "min_speedup": 1.0},
}


@dataclass(frozen=True)
class Speed:
    """How many times as fast as FP32 and as FP16 the engine is; ``native_fp16``: the target computes FP16 as such."""

    over_fp32: float
    over_fp16: float | None
    native_fp16: bool


# Where the spec asks for a task metric.
DEFAULT_METRIC_DROP = 0.01


def judge(
    gates: Gates,
    precision: str,
    *,
    tf32: bool = False,
    by_paddle: bool = False,
    fidelity: Mapping[str, Fidelity],
    speed: Speed | None,
    metric: TaskMetric | None,
    worst: TensorError | None,
) -> tuple[Gate, ...]:
    """Hold the measurements against the spec's gates, or the defaults of ``precision`` where it names none.

    Args:
        tf32: the target computes FP32 as TF32.
        by_paddle: the engine is the Paddle model itself, so that no graph of ours can be changed.
        speed: ``None`` where the engine could not run on its target.

    A gate named for one output replaces the general one there. ``top1_agreement`` applies to outputs that hold
    probabilities; asked for by name on an output without rows it fails, since nothing was compared. So do the gates
    that the spec names for an output that the model has not.
    """
    precision = "tf32" if tf32 and precision == "fp32" else precision
    defaults = DEFAULTS[precision]
    advice = (_PADDLE_ADVICE if by_paddle else _ADVICE)[precision]
    judged = [
        gate
        for output, measured in fidelity.items()
        for gate in _output_gates(gates, defaults, output, measured, _with_worst(advice, worst))
    ]
    judged.extend(_gates_on_nothing(gates, fidelity))
    if metric is not None:
        judged.extend(_metric_gates(gates, metric, advice))
    if speed is not None:
        judged.extend(_speed_gates(gates, precision, speed))
    return tuple(judged)


def _speed_gates(gates: Gates, precision: str, speed: Speed) -> Iterator[Gate]:
    default = DEFAULTS[precision].get("min_speedup")
    if precision in ("fp16", "bf16") and speed.native_fp16:
        default = 1.0
    bound = gates.min_speedup if gates.min_speedup is not None else default
    if bound is not None:
        yield _gate("min_speedup", "", ">=", bound, speed.over_fp32, _SPEED_ADVICE)
    if gates.min_speedup_over_fp16 is not None:
        measured = math.nan if speed.over_fp16 is None else speed.over_fp16
        advice = _SPEED_ADVICE if speed.over_fp16 is not None else _NO_FP16
        yield _gate("min_speedup_over_fp16", "", ">=", gates.min_speedup_over_fp16, measured, advice)


def _output_gates(
    gates: Gates, defaults: Mapping[str, float], output: str, measured: Fidelity, advice: str
) -> list[Gate]:
    own = gates.outputs.get(output)
    judged = []
    for name, comparison in FIDELITY_GATES.items():
        asked = getattr(own, name, None)
        asked = asked if asked is not None else getattr(gates, name)
        bound = asked if asked is not None else defaults.get(name)
        value = getattr(measured, name)
        if bound is None or (name == "top1_agreement" and asked is None and not measured.probabilities):
            continue
        if value is None:
            judged.append(_gate(name, output, comparison, bound, math.nan, _NO_SCORES))
        elif measured.elements == 0 or math.isnan(value):
            judged.append(_gate(name, output, comparison, bound, math.nan, _NOTHING_COMPARED))
        else:
            judged.append(_gate(name, output, comparison, bound, value, advice))
    return judged


def _gates_on_nothing(gates: Gates, fidelity: Mapping[str, Fidelity]) -> Iterator[Gate]:
    advice = f"the model has no such output: its outputs are {', '.join(fidelity)}"
    for output, own in gates.outputs.items():
        if output in fidelity:
            continue
        for name, comparison in FIDELITY_GATES.items():
            if (bound := getattr(own, name)) is not None:
                yield _gate(name, output, comparison, bound, math.nan, advice)


def _metric_gates(gates: Gates, metric: TaskMetric, advice: str) -> list[Gate]:
    judged = []
    if gates.metric is not None:
        judged.append(_gate("metric", "", ">=", gates.metric, metric.engine, advice))
    drop = gates.metric_drop if gates.metric_drop is not None else DEFAULT_METRIC_DROP
    judged.append(_gate("metric_drop", "", "<=", drop, metric.reference - metric.engine, advice))
    return judged


def _gate(name: str, output: str, comparison: Comparison, bound: float, measured: float, advice: str) -> Gate:
    passed = measured >= bound if comparison == ">=" else measured <= bound
    return Gate(
        name=name, output=output, comparison=comparison, bound=bound, measured=measured, passed=passed,
        advice="" if passed else advice,
    )  # fmt: skip


def _with_worst(advice: str, worst: TensorError | None) -> str:
    if worst is None:
        return advice
    return (
        f"{advice}; or keep the operator behind the worst tensor {worst.tensor!r} ({worst.sqnr_db:.1f} dB) in FP32: "
        f'[quantization] exclude = ["{worst.node}"]'
    )


_ADVICE = {
    "fp32": "the converted graph itself is off, see the conversion errors: export the model again, or report it",
    "tf32": "this target rounds FP32 products to 10 bits, which is too few here: use tensorrt with tf32 = false, or "
    "loosen the gate; or the converted graph itself is off: onnxruntime-cpu would tell",
    "fp16": "some values need more than FP16 holds: keep operators in FP32 with [quantization] exclude or exclude_ops",
    "bf16": "some values need more than 8 bits of mantissa: build fp16",
    "int8": 'try another [calibration] method ("mse", "percentile", "entropy", "minmax") or more samples',
}
_WITH_PADDLE = "on paddle-tensorrt, keep operators with Paddle: exp_disable_tensorrt_ops in [engine.paddle]"
_PADDLE_ADVICE = {
    "fp32": "Paddle differs from its own run on the CPU: the build log may say why; another Paddle may do",
    "tf32": "this GPU rounds FP32 products to 10 bits, which is too few here: NVIDIA_TF32_OVERRIDE=0 in the "
    "environment forbids that; or loosen the gate",
    "fp16": f"some values need more than FP16 holds: build fp32; or, {_WITH_PADDLE}",
    "bf16": _ADVICE["bf16"],
    "int8": "calibrate on more samples; or take a quantized model, [engine] quantized_model, or let Paddle make one, "
    f'[quantization] producer = "paddle-ptq"; or, {_WITH_PADDLE}',
}
_NO_SCORES = "this output holds no class scores: ask for it at those that do, [verify.gates.outputs.NAME]"
_NOTHING_COMPARED = "the output was empty, held NaN or infinity, or had another shape than the reference's"
_NO_FP16 = 'there is no FP16 engine to compare with: precision = ["fp16", "int8"] builds one'
_SPEED_ADVICE = (
    "this precision does not pay for this model, batch and machine: publish fp32 or fp16, "
    "feed larger batches ([model.inputs.NAME] opt), or say min_speedup = 0.5 if size is what counts"
)
