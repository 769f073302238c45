"""Gates: documented defaults, no pass by NaN or by comparing nothing, and advice for whoever missed one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.spec.schema import Gates
from trtd.verify import gates as room
from trtd.verify.gates import DEFAULTS, FIDELITY_GATES, Speed, judge
from trtd.verify.report import Fidelity, Gate, TaskMetric, TensorError

GOOD: dict[str, Any] = {
    "elements": 10, "cosine": 0.99999, "sqnr_db": 60.0, "relative_l2": 1e-4, "max_abs_error": 1e-3,
    "top1_agreement": 1.0, "probabilities": True,
}  # fmt: skip
WORST = TensorError(tensor="inner", node="conv_7", op="Conv", sqnr_db=3.25)


def measured(**changes: Any) -> Fidelity:
    return Fidelity(**(GOOD | changes))


def held(
    gates: dict[str, Any] | None = None,
    precision: str = "int8",
    *,
    outputs: dict[str, Fidelity] | None = None,
    speedup: float | None = 2.0,
    over_fp16: float | None = None,
    native_fp16: bool = False,
    metric: TaskMetric | None = None,
    worst: TensorError | None = None,
    by_paddle: bool = False,
) -> dict[tuple[str, str], Gate]:
    """The judged gates by (output, name)."""
    judged = judge(
        Gates.model_validate(gates or {}),
        precision,
        by_paddle=by_paddle,
        fidelity={"y": measured()} if outputs is None else outputs,
        speed=None if speedup is None else Speed(speedup, over_fp16, native_fp16),
        metric=metric,
        worst=worst,
    )
    return {(gate.output, gate.name): gate for gate in judged}


def test_the_documented_defaults_are_the_defaults() -> None:
    """The table at the top of the module is what the documentation shows."""
    assert room.__doc__ is not None
    rows = [line.split("  ") for line in room.__doc__.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    header = next(row for row in cells if row[:1] == ["precision"])
    names = [name.split()[0] for name in header[1:]]
    table = {row[0]: dict(zip(names, row[1:], strict=True)) for row in cells if row[:1] and row[0] in DEFAULTS}
    documented = {p: {n: float(v) for n, v in row.items() if "none" not in v} for p, row in table.items()}
    assert documented == DEFAULTS


@pytest.mark.parametrize("precision", DEFAULTS)
def test_a_spec_without_gates_is_held_to_the_defaults(precision: str) -> None:
    """Measuring without gating is a silent failure."""
    found = {name: gate.bound for (_, name), gate in held(precision=precision).items()}
    assert found == DEFAULTS[precision]
    assert all(gate.passed for gate in held(precision=precision).values())


@pytest.mark.parametrize(
    ("name", "bound", "passing", "failing"),
    [
        ("cosine", 0.9, 0.9, 0.8999),
        ("sqnr_db", 20.0, 20.0, 19.9),
        ("relative_l2", 0.1, 0.1, 0.1001),
        ("max_abs_error", 0.5, 0.5, 0.51),
        ("top1_agreement", 0.95, 0.95, 0.94),
    ],
)
def test_a_bound_is_met_or_missed(name: str, bound: float, passing: float, failing: float) -> None:
    """On the right side of the bound, which itself passes."""
    assert held({name: bound}, outputs={"y": measured(**{name: passing})})["y", name].passed
    missed = held({name: bound}, outputs={"y": measured(**{name: failing})})["y", name]
    assert not missed.passed
    assert (missed.bound, missed.measured) == (bound, failing)


@pytest.mark.parametrize("name", FIDELITY_GATES)
def test_nan_fails_every_gate(name: str) -> None:
    """NaN compares as false either way round; a gate written as ``not (x > bound)`` would pass it."""
    bound = {"sqnr_db": 1.0, "max_abs_error": 1e6}.get(name, 0.5)
    gate = held({name: bound}, outputs={"y": measured(**{name: math.nan})})["y", name]
    assert not gate.passed
    assert math.isnan(gate.measured)
    assert "NaN" in gate.advice


@pytest.mark.parametrize("name", FIDELITY_GATES)
def test_nothing_compared_fails_every_gate(name: str) -> None:
    """Zero elements, whatever numbers stand beside them."""
    bound = {"sqnr_db": 1.0, "max_abs_error": 1e6}.get(name, 0.5)
    gate = held({name: bound}, outputs={"y": measured(elements=0)})["y", name]
    assert not gate.passed
    assert gate.advice


def test_every_output_is_judged() -> None:
    """An output that the spec does not mention is judged by the defaults."""
    found = held({"cosine": 0.5}, outputs={"y": measured(), "z": measured(relative_l2=0.9)})
    assert found["z", "cosine"].bound == 0.5
    assert not found["z", "relative_l2"].passed
    assert found["y", "relative_l2"].passed


def test_an_output_may_have_bounds_of_its_own() -> None:
    """Key by key: what its table leaves out comes from the general gates, then from the defaults."""
    gates = {"cosine": 0.9, "outputs": {"z": {"cosine": 0.5, "max_abs_error": 2.0}}}
    found = held(gates, outputs={"y": measured(), "z": measured()})
    assert (found["y", "cosine"].bound, found["z", "cosine"].bound) == (0.9, 0.5)
    assert ("y", "max_abs_error") not in found
    assert found["z", "max_abs_error"].bound == 2.0
    assert found["z", "relative_l2"].bound == DEFAULTS["int8"]["relative_l2"]


def test_gates_on_an_output_that_is_not_there_fail() -> None:
    """A misspelt output name would otherwise be a gate that compares nothing, and passes."""
    gate = held({"outputs": {"tpyo": {"cosine": 0.5}}})["tpyo", "cosine"]
    assert not gate.passed
    assert math.isnan(gate.measured)
    assert "its outputs are y" in gate.advice


def test_top1_is_asked_by_default_of_probabilities_only() -> None:
    """An embedding has rows too; its largest coordinate means nothing."""
    assert ("y", "top1_agreement") in held()
    assert ("y", "top1_agreement") not in held(outputs={"y": measured(probabilities=False)})
    assert held({"top1_agreement": 0.9}, outputs={"y": measured(probabilities=False)})["y", "top1_agreement"].passed


@pytest.mark.parametrize("gates", [{"top1_agreement": 0.9}, {"outputs": {"y": {"top1_agreement": 0.9}}}])
def test_top1_asked_of_an_output_without_classes_fails(gates: dict[str, Any]) -> None:
    """Nothing was compared, and the author believes that it was."""
    gate = held(gates, outputs={"y": measured(top1_agreement=None, probabilities=False)})["y", "top1_agreement"]
    assert not gate.passed
    assert "no class scores" in gate.advice


@pytest.mark.parametrize(("speedup", "passed"), [(1.5, True), (1.0, True), (0.99, False), (math.nan, False)])
def test_int8_must_not_be_slower_than_fp32(speedup: float, passed: bool) -> None:
    """What INT8 costs in fidelity must buy something."""
    gate = held(speedup=speedup)["", "min_speedup"]
    assert gate.passed is passed
    assert bool(gate.advice) is not passed


def test_speed_is_asked_of_other_precisions_only_by_name() -> None:
    """On the CPU, FP16 halves the file and gains no time."""
    assert ("", "min_speedup") not in held(precision="fp16", speedup=0.5)
    assert not held({"min_speedup": 1.0}, "fp16", speedup=0.5)["", "min_speedup"].passed


def test_fp16_must_pay_where_it_is_computed_as_such() -> None:
    """On a GPU a small batch may be slower in FP16; published, it would be slower and less exact than FP32."""
    gate = held(precision="fp16", speedup=0.74, native_fp16=True)["", "min_speedup"]
    assert not gate.passed
    assert "does not pay" in gate.advice
    assert held(precision="fp16", speedup=1.8, native_fp16=True)["", "min_speedup"].passed
    assert held({"min_speedup": 0.5}, "fp16", speedup=0.74, native_fp16=True)["", "min_speedup"].passed


@pytest.mark.parametrize(("measured_ratio", "passed"), [(1.3, True), (0.9, False), (None, False)])
def test_int8_may_have_to_beat_fp16(measured_ratio: float | None, passed: bool) -> None:
    """INT8 that FP16 outruns loses precision for nothing; without an FP16 engine nothing was compared."""
    gate = held({"min_speedup_over_fp16": 1.0}, over_fp16=measured_ratio)["", "min_speedup_over_fp16"]
    assert gate.passed is passed
    assert ("", "min_speedup_over_fp16") not in held(over_fp16=0.5)


def test_what_did_not_run_is_not_judged_for_speed() -> None:
    """The time of an emulation on the CPU says nothing about a GPU; fidelity counts all the same."""
    judged = held({"min_speedup": 1.0, "min_speedup_over_fp16": 1.0}, speedup=None)
    assert {name for _, name in judged} == {"cosine", "relative_l2", "top1_agreement"}


def test_a_task_metric_may_drop_by_one_point() -> None:
    """By default; and the engine's own value is held only against a bound that is asked for."""
    found = held(metric=TaskMetric(name="top1", engine=0.95, reference=0.955))
    assert found["", "metric_drop"].passed
    assert found["", "metric_drop"].bound == 0.01
    assert ("", "metric") not in found
    assert not held(metric=TaskMetric(name="top1", engine=0.9, reference=0.95))["", "metric_drop"].passed
    gates = {"metric": 0.99, "metric_drop": 0.2}
    found = held(gates, metric=TaskMetric(name="top1", engine=0.9, reference=0.95))
    assert not found["", "metric"].passed
    assert found["", "metric_drop"].passed


@pytest.mark.parametrize(("engine", "reference"), [(math.nan, 0.9), (0.9, math.nan)])
def test_a_metric_that_is_no_number_fails(engine: float, reference: float) -> None:
    """A hook that divides nothing by nothing gives NaN, on either side."""
    found = held({"metric": 0.1}, metric=TaskMetric(name="hook", engine=engine, reference=reference))
    assert not found["", "metric_drop"].passed
    assert found["", "metric"].passed is not math.isnan(engine)


@pytest.mark.parametrize("precision", DEFAULTS)
def test_missed_gates_say_what_to_try(precision: str) -> None:
    """Something that this precision offers, and the operator that is to blame."""
    outputs = {"y": measured(cosine=0.1)}
    advice = held(precision=precision, outputs=outputs, worst=WORST)["y", "cosine"].advice
    assert "conv_7" in advice
    assert "3.2 dB" in advice
    assert ("[calibration] method" in advice) is (precision == "int8")
    plain = held(precision=precision, outputs=outputs)["y", "cosine"].advice
    assert plain
    assert "conv_7" not in plain


@pytest.mark.parametrize("precision", DEFAULTS)
def test_advice_for_paddles_targets_is_what_they_take(precision: str) -> None:
    """The spec refuses [quantization] exclude and [calibration] method there."""
    advice = held(precision=precision, outputs={"y": measured(cosine=0.1)}, by_paddle=True)["y", "cosine"].advice
    assert advice
    assert "exclude" not in advice
    assert "method" not in advice
    assert ("paddle-ptq" in advice) is (precision == "int8")


BOUND = st.floats(0.01, 1)


@given(
    cosine=BOUND, agreement=BOUND, error=st.floats(0, 0.9), value=st.one_of(st.floats(-1, 2), st.just(math.nan)),
    precision=st.sampled_from(sorted(DEFAULTS)),
)  # fmt: skip
def test_a_gate_passes_only_on_its_side_of_the_bound(
    cosine: float, agreement: float, error: float, value: float, precision: str
) -> None:
    """Whatever is asked and measured: passed means that the comparison it shows holds, missed means advice."""
    gates = {"cosine": cosine, "top1_agreement": agreement, "relative_l2": error}
    found = held(gates, precision, outputs={"y": measured(cosine=value, top1_agreement=value, relative_l2=value)})
    for gate in found.values():
        holds = gate.measured >= gate.bound if gate.comparison == ">=" else gate.measured <= gate.bound
        assert gate.passed is holds
        assert bool(gate.advice) is not gate.passed
