"""Gates: what must hold before an engine is published.

Defaults, used wherever the spec is silent:

=========  ==============  ===========  ====================================  ============
precision  cosine          relative_l2  top1_agreement (class scores only)    min_speedup
=========  ==============  ===========  ====================================  ============
fp32       0.9999          1e-3         0.999                                 none
fp16       0.999           0.05         0.99                                  none
int8       0.99            none         0.99                                  1.0
=========  ==============  ===========  ====================================  ============

FP16 has no speed gate on the CPU, where it halves the file and gains no time. A gate that compared nothing has
failed, and NaN has failed: both comparisons below are false for NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    "fp16": {"cosine": 0.999, "relative_l2": 0.05, "top1_agreement": 0.99},
    "int8": {"cosine": 0.99, "top1_agreement": 0.99, "min_speedup": 1.0},
}


def judge(
    gates: Gates,
    precision: str,
    *,
    fidelity: Mapping[str, Fidelity],
    speedup: float,
    metric: TaskMetric | None,
    worst: TensorError | None,
) -> tuple[Gate, ...]:
    """Hold the measurements against the spec's gates, or the defaults of ``precision`` where it names none.

    A gate named for one output replaces the general one there. ``top1_agreement`` applies to outputs that hold class
    scores; asked for by name on another output it fails, since nothing was compared.
    """
    defaults = DEFAULTS[precision]
    judged = [
        gate
        for output, measured in fidelity.items()
        for gate in _output_gates(gates, defaults, output, measured, worst)
    ]
    if metric is not None:
        judged.extend(_metric_gates(gates, metric))
    bound = gates.min_speedup if gates.min_speedup is not None else defaults.get("min_speedup")
    if bound is not None:
        judged.append(_gate("min_speedup", "", ">=", bound, speedup, _SPEED_ADVICE))
    return tuple(judged)


def _output_gates(
    gates: Gates, defaults: Mapping[str, float], output: str, measured: Fidelity, worst: TensorError | None
) -> list[Gate]:
    own = gates.outputs.get(output)
    judged = []
    for name, comparison in FIDELITY_GATES.items():
        asked = getattr(own, name, None)
        asked = asked if asked is not None else getattr(gates, name)
        bound = asked if asked is not None else defaults.get(name)
        value = getattr(measured, name)
        if bound is None or (name == "top1_agreement" and value is None and asked is None):
            continue
        value = float("nan") if value is None or measured.elements == 0 else value
        judged.append(_gate(name, output, comparison, bound, value, _fidelity_advice(worst)))
    return judged


def _metric_gates(gates: Gates, metric: TaskMetric) -> list[Gate]:
    judged = []
    if gates.metric is not None:
        judged.append(_gate("metric", "", ">=", gates.metric, metric.engine, _fidelity_advice(None)))
    drop = gates.metric_drop if gates.metric_drop is not None else 0.01
    judged.append(_gate("metric_drop", "", "<=", drop, metric.reference - metric.engine, _fidelity_advice(None)))
    return judged


def _gate(name: str, output: str, comparison: Comparison, bound: float, measured: float, advice: str) -> Gate:
    passed = measured >= bound if comparison == ">=" else measured <= bound
    return Gate(
        name=name, output=output, comparison=comparison, bound=bound, measured=measured, passed=passed,
        advice="" if passed else advice,
    )  # fmt: skip


def _fidelity_advice(worst: TensorError | None) -> str:
    others = 'try another [calibration] method ("mse", "percentile", "entropy", "minmax") or more samples'
    if worst is None:
        return others
    return (
        f"{others}; or keep the operator behind the worst tensor {worst.tensor!r} ({worst.sqnr_db:.1f} dB) in FP32: "
        f'[quantization] exclude = ["{worst.node}"]'
    )


_SPEED_ADVICE = (
    "this precision does not pay for this model, batch and machine: publish fp32 or fp16, "
    "feed larger batches ([model.inputs.NAME] opt), or say min_speedup = 0.5 if size is what counts"
)
