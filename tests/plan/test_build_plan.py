"""What an engine is made from decides what is built again: everything that matters, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.plan import build_plan
from trtd.plan.build_plan import STAGE_INGREDIENTS, STAGE_SOURCES, STAGE_VERSIONS, BuildPlan, make_plan, stale_reasons
from trtd.plan.shapes import Profile
from trtd.spec.schema import Spec

SPEC: dict[str, Any] = {
    "name": "det",
    "model": {"path": "m"},
    "engine": {"precision": ["int8", "fp16"]},
    "calibration": {"data": "c", "method": "entropy", "preprocess": {"resize": [8, 8]}},
    "verify": {"metric": "top1", "labels": "l.npy", "gates": {"cosine": 0.9}},
}
TOOLS = {"onnx": "1.17.0", "onnx-ir": "1.1.0", "onnxruntime": "1.32.0", "paddlepaddle": "3.3.1", "paddle2onnx": "2.1.0"}
FACTS: dict[str, Any] = {
    "model_digest": "sha256:model",
    "profiles": {"x": Profile(min=(1, 8), opt=(2, 8), max=(4, 8))},
    "calibration_digest": "sha256:calibration",
    "heldout_digest": "sha256:heldout",
    "heldout_order_digest": "sha256:order",
    "labels_digest": "sha256:labels",
    "hook_digest": None,
    "table_digest": None,
    "quantized": False,
    "fallback_digest": None,
    "shapes_digest": None,
    "fingerprint": {"machine": "x86_64", "vnni": "yes"},
    "tools": TOOLS,
}
STAGES = list(STAGE_INGREDIENTS)


def plan(precision: str = "int8", spec: dict[str, Any] | None = None, **facts: Any) -> BuildPlan:
    """The plan of SPEC, with ``spec`` laid over it section by section."""
    merged = dict(SPEC)
    for section, values in (spec or {}).items():
        merged[section] = {**merged.get(section, {}), **values} if isinstance(values, dict) else values
    return make_plan(Spec.model_validate(merged), precision, name="n", **(FACTS | facts))


def changed(other: BuildPlan, base: BuildPlan | None = None) -> set[str]:
    """The stages whose output is not the base plan's."""
    base = base or plan()
    return {stage for stage in STAGES if base.stage_key(stage) != other.stage_key(stage)}


PADDLE = {"paddle-prepare", "paddle-calibrate", "paddle-build"}
LATER = {"quantize", "build"}
CALIBRATED = {"produce", "calibrate", *LATER, *PADDLE}
EVERY_STAGE = {"convert", "reference", *CALIBRATED}


@pytest.mark.parametrize(
    ("other", "stages"),
    [
        (plan(spec={"verify": {"gates": {"cosine": 0.5}}}), set()),
        (plan(spec={"verify": {"latency_runs": 7}}), set()),
        (plan(labels_digest="sha256:other"), set()),
        (plan(hook_digest="sha256:other"), set()),
        (plan(spec={"publish": {"keep": 9}}), set()),
        (plan(spec={"calibration": {"method": "mse"}}), LATER),
        (plan(spec={"quantization": {"exclude": ["head/*"]}}), LATER),
        (plan(spec={"quantization": {"exclude_ops": ["Conv"]}}), LATER),
        (plan(spec={"quantization": {"activation": "int8"}}), {"calibrate", *LATER, *PADDLE}),
        (plan(spec={"calibration": {"batch": 4}}), CALIBRATED),
        (plan(calibration_digest="sha256:other"), CALIBRATED),
        (plan(table_digest="sha256:other"), {"calibrate", *LATER}),
        (plan(fallback_digest="sha256:other"), LATER),
        (plan(spec={"quantization": {"producer": "paddle-ptq"}}), {"produce", *LATER}),
        (plan(heldout_digest="sha256:other"), {"reference"}),
        (plan(heldout_order_digest="sha256:other"), {"reference"}),
        (plan(fingerprint={"machine": "x86_64", "vnni": "no"}), {*LATER, *PADDLE}),
        (
            plan(spec={"calibration": {"preprocess": {"resize": [9, 9]}}}),
            {"reference", *CALIBRATED},
        ),
        (
            plan(profiles={"x": Profile(min=(1, 8), opt=(3, 8), max=(4, 8))}),
            {"reference", *CALIBRATED},
        ),
        (plan(model_digest="sha256:other"), EVERY_STAGE),
    ],
)
def test_a_change_reaches_the_stages_that_depend_on_it(other: BuildPlan, stages: set[str]) -> None:
    """Too few, and a stale result is used; too many, and trying another method calibrates for an hour again."""
    assert changed(other) == stages


@pytest.mark.parametrize("tool", TOOLS)
def test_another_version_of_any_tool_runs_every_stage_again(tool: str) -> None:
    """A cache hit under other tool versions is a silent failure: the same graph may convert to other numbers."""
    assert changed(plan(tools=TOOLS | {tool: "99"})) == EVERY_STAGE
    assert changed(plan(tools={t: v for t, v in TOOLS.items() if t != tool})) == EVERY_STAGE


@pytest.mark.parametrize(
    ("stage", "stages"),
    [
        ("convert", {"convert", "calibrate", *LATER}),
        ("produce", {"produce"}),
        ("calibrate", {"calibrate", *LATER}),
        ("reference", {"reference"}),
        ("quantize", LATER),
        ("build", {"build"}),
        ("verify", set()),
    ],
)
def test_a_new_version_of_a_stage_runs_those_behind_it_again(
    stage: str, stages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they read from the store was made by the old version."""
    before = {name: plan().stage_key(name) for name in STAGES}
    monkeypatch.setitem(STAGE_VERSIONS, stage, 99)
    after = plan()
    assert {name for name in STAGES if after.stage_key(name) != before[name]} == stages
    assert after.ingredients[f"stage.{stage}"] == "99"


def test_every_stage_is_accounted_for() -> None:
    """A new stage without a key would take another one's output."""
    assert set(STAGE_SOURCES) == set(STAGE_INGREDIENTS) == set(STAGE_VERSIONS) - {"verify"}
    assert len({plan().stage_key(stage) for stage in STAGES}) == len(STAGES)
    for stage, sources in STAGE_SOURCES.items():
        words = STAGE_INGREDIENTS[stage]
        for row in (row for source in sources for row in STAGE_INGREDIENTS[source]):
            assert any(row == word or row.startswith(f"{word}.") for word in words), f"{stage} reads what {row} made"


def test_precisions_share_what_does_not_depend_on_them() -> None:
    """One conversion and one reference run serve the INT8 and the FP16 engine of a spec."""
    assert changed(plan("fp16"), plan("int8")) == CALIBRATED
    assert not [key for key in plan("fp16").ingredients if key.startswith("calibration.")]


def test_the_percentile_counts_only_for_its_method() -> None:
    """Changing an unused number must not rebuild anything."""
    spec = {"calibration": {"percentile": 99.0}}
    assert plan(spec=spec).digest == plan().digest
    used = plan(spec={"calibration": {"method": "percentile"}})
    assert changed(plan(spec={"calibration": {"method": "percentile", "percentile": 99.0}}), used) == {
        "quantize",
        "build",
    }


@pytest.mark.parametrize(
    ("other", "row"),
    [
        (plan(spec={"verify": {"gates": {"cosine": 0.95}}}), "verify.gates.cosine"),
        (
            plan(spec={"verify": {"gates": {"cosine": 0.9, "outputs": {"y": {"sqnr_db": 9.0}}}}}),
            "verify.gates.outputs.y.sqnr_db",
        ),
        (plan(labels_digest="sha256:other"), "verify.labels"),
        (plan(hook_digest="sha256:other"), "verify.hook"),
        (plan(spec={"verify": {"metric": "metrics.py:f1"}}), "verify.metric"),
    ],
)
def test_what_judges_makes_another_engine_though_no_other_file(other: BuildPlan, row: str) -> None:
    """An engine is published with its verdict: stricter gates or other labels must judge again."""
    assert other.digest != plan().digest
    assert [r.partition(":")[0] for r in stale_reasons(plan().ingredients, other.ingredients)] == [row]


def test_plans_do_not_depend_on_order() -> None:
    """Dictionaries come in any order; a digest that follows it would build again for nothing."""
    turned = plan(tools=dict(reversed(TOOLS.items())), fingerprint={"vnni": "yes", "machine": "x86_64"})
    assert turned.digest == plan().digest
    assert list(turned.ingredients) == sorted(turned.ingredients)


def test_an_unpublished_engine_has_one_reason() -> None:
    """Listing forty new rows would say the same at length."""
    assert stale_reasons(None, plan().ingredients) == ["nothing is published under this name yet"]
    assert stale_reasons(plan().ingredients, plan().ingredients) == []


ROWS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2", "sha256:0123456789abcdef", "x" * 99]))


@given(published=ROWS, planned=ROWS)
def test_reasons_are_exactly_the_rows_that_differ(published: dict[str, str], planned: dict[str, str]) -> None:
    """Each once, in order, also where a row came or went."""
    differing = sorted(k for k in {*published, *planned} if published.get(k) != planned.get(k))
    reasons = stale_reasons(published, planned)
    assert [reason.partition(":")[0] for reason in reasons] == differing
    for key, reason in zip(differing, reasons, strict=True):
        assert ("absent ->" in reason) is (key not in published)
        assert reason.endswith("-> absent") is (key not in planned)
        assert len(reason) < 140


def test_digests_are_shortened_in_reasons() -> None:
    """Twelve digits tell two apart; 64 wrap the line."""
    old, new = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    assert stale_reasons({"model": old}, {"model": new}) == [f"model: {old[:19]} -> {new[:19]}"]


def test_planning_imports_nothing_heavy() -> None:
    """``trtd plan --explain`` answers in the time of its imports."""
    code = (
        "import sys, trtd.plan.build_plan, trtd.plan.shapes; "
        "print(*{'numpy', 'PIL', 'onnx', 'onnxruntime', 'paddle'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert build_plan.__doc__
