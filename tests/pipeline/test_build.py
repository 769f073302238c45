"""Building from a spec: what is published, what is not built again, what a failure leaves behind."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.workshop import Recorder, Workshop, write_image, write_model
from trtd.calibrate.table import read_table
from trtd.errors import GateMissed, RegistryError, SpecError, StageError, TrtdError, WorkerSilent
from trtd.pipeline.bounds import Bounds
from trtd.pipeline.build import Request, calibrate, explain
from trtd.pipeline.build import build as build_engines
from trtd.pipeline.published import bench_published, verify_published
from trtd.pipeline.staleness import read_report
from trtd.registry.manifest import read_manifest, verify_files
from trtd.registry.retention import gc
from trtd.registry.rollback import rollback
from trtd.spec.schema import BuildSection, Preprocess

RECORDS = {"manifest.json", "report.json", "report.html", "calibration.json", "build.log", "summary.json"}


def reasons(shop: Workshop, spec: Path) -> list[str]:
    """Why the int8 engine of a spec would be built."""
    return next(why for plan, why in explain(spec, Request(shop.registry)) if plan.precision == "int8")


def tiny(shop: Workshop, **changes: str) -> Path:
    """The spec that the workshop's registry was built from, changed."""
    return shop.spec(**{"precision": '["int8", "fp16"]', **changes})


def test_a_paddle_model_becomes_published_engines_with_whole_records(digits: Workshop) -> None:
    """The main job: an engine, its proof, or a file of its record would be missing, or not be what was measured."""
    registry = digits.registry
    assert registry.names() == ("digits-fp16", "digits-int8")
    for name, records in (("digits-int8", RECORDS), ("digits-fp16", RECORDS - {"calibration.json"})):
        manifest = verify_files(registry, name, 1)
        assert {file.name for file in registry.record(name, 1).iterdir()} == records
        assert {file.name for file in registry.engine(name, 1).iterdir()} == {"model.onnx"}
        assert f'name: "{name}"' in (registry.engines / name / "config.pbtxt").read_text()
        report = read_report(registry, name, 1)
        assert report.passed
        assert manifest.gates == report.gates
        assert report.items == 64
        assert report.reference.startswith("Paddle Inference ")
        assert all(fidelity.relative_l2 < 1e-4 for fidelity in report.conversion.values())
        assert report.metric is not None
        assert report.metric.reference > 0.95
        assert "== verify: finished" in (registry.record(name, 1) / "build.log").read_text()
    table = read_table(registry.record("digits-int8", 1) / "calibration.json")
    assert table.samples == 64
    assert read_manifest(registry, "digits-int8", 1).calibration_digest == table.set_digest
    assert (
        registry.engine("digits-int8", 1).joinpath("model.onnx").stat().st_size * 2
        < read_report(registry, "digits-int8", 1).fp32_bytes
    )


def test_what_is_up_to_date_starts_no_process(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every build would take minutes again, and every version number would mean nothing."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    recorder = Recorder()
    outcomes = shop.build(tiny(shop), recorder)
    assert recorder.heard == []
    assert [(o.name, o.version, o.built, o.error) for o in outcomes] == [
        ("tiny-int8", 1, False, None),
        ("tiny-fp16", 1, False, None),
    ]
    assert all(o.report is not None and o.report.passed for o in outcomes)


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"calibration": 'data = "../images"\nmethod = "percentile"'}, "percentile"),
        ({"more": '[quantization]\nexclude = ["conv2"]'}, "mse"),
    ],
)
def test_another_method_or_exclusion_calibrates_nothing_again(
    changes: dict[str, str], method: str, shop: Workshop
) -> None:
    """Trying out methods would cost a pass over the data each time."""
    recorder = Recorder()
    outcome = shop.build(tiny(shop, **changes), recorder)[0]
    assert outcome.error is None
    assert (outcome.version, outcome.built) == (2, True)
    assert recorder.heard[:3] == ["convert cached", "calibrate cached", "reference cached"]
    assert "quantize" in recorder.ran
    old, new = (shop.registry.engine("tiny-int8", n).joinpath("model.onnx").read_bytes() for n in (1, 2))
    assert old != new
    ingredients = read_manifest(shop.registry, "tiny-int8", 2).ingredients
    assert ingredients["calibration.method"] == method


def test_force_publishes_what_is_up_to_date_again(shop: Workshop) -> None:
    """There would be no way to measure anew on another machine."""
    recorder = Recorder()
    outcomes = shop.build(shop.spec("solo", precision='"fp16"'), recorder)
    again = Recorder()
    outcomes += shop.build(shop.spec("solo", precision='"fp16"'), again, force=True)
    assert [(o.version, o.built) for o in outcomes] == [(1, True), (2, True)]
    assert again.ran == ["verify"]


def add_image(shop: Workshop) -> Path:
    write_image(shop.images / "99.png", 99)
    return tiny(shop)


def change_model(shop: Workshop) -> Path:
    write_model(shop.model, doc="one byte more")
    return tiny(shop)


PREPROCESS_ROWS = {f"preprocess.{key}" for key, value in Preprocess().model_dump().items()}

CHANGES: dict[str, tuple[Callable[[Workshop], Path], set[str]]] = {
    "method": (lambda s: tiny(s, calibration='data = "../images"\nmethod = "entropy"'), {"calibration.method"}),
    "batch": (lambda s: tiny(s, calibration='data = "../images"\nbatch = 2'), {"calibration.batch"}),
    "gate": (lambda s: tiny(s, gates="cosine = 0.9"), {"verify.gates.cosine"}),
    "exclude": (lambda s: tiny(s, more='[quantization]\nexclude = ["conv2"]'), {"quantization.exclude"}),
    "model": (change_model, {"model"}),
    "preprocess": (lambda s: tiny(s, more="[calibration.preprocess]\nscale = 0.5"), PREPROCESS_ROWS),
    "shape": (
        lambda s: tiny(s, more="[model.inputs.x]\nmin = [1, 3, 8, 8]\nopt = [2, 3, 8, 8]\nmax = [4, 3, 8, 8]"),
        {"inputs"},
    ),
    "nothing": (tiny, set()),
    "retention": (lambda s: tiny(s, more="[publish]\nkeep = 9"), set()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_reasons_name_exactly_what_changed(what: str, shop: Workshop) -> None:
    """Somebody who waits for a build could not know why, or would wait for one that is not needed."""
    change, keys = CHANGES[what]
    assert {reason.split(":")[0] for reason in reasons(shop, change(shop))} == keys


def test_an_added_image_is_a_reason(shop: Workshop) -> None:
    """New data would never be calibrated or judged on. Which of the two sets grew is decided by the file's name."""
    found = {reason.split(":")[0] for reason in reasons(shop, add_image(shop))}
    assert found & {"calibration.set", "heldout.set"}
    assert found <= {"calibration.set", "heldout.set", "heldout.order"}


def test_another_tool_version_is_a_reason(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of an old runtime would pass for one of the new."""
    real = importlib.metadata.version
    monkeypatch.setattr("trtd.pipeline.tools.version", lambda name: "99.0" if name == "onnxruntime" else real(name))
    assert reasons(shop, tiny(shop)) == [f"tool.onnxruntime: {real('onnxruntime')} -> 99.0"]


def test_a_torn_live_version_is_a_reason(shop: Workshop) -> None:
    """`build` would say that all is well of an engine that `load` refuses."""
    engine = shop.registry.engine("tiny-int8", 1) / "model.onnx"
    engine.write_bytes(engine.read_bytes()[:-1])
    (reason,) = reasons(shop, tiny(shop))
    assert "tiny-int8@1 is torn" in reason
    (shop.registry.record("tiny-fp16", 1) / "manifest.json").write_text("{")
    assert all(why for _, why in explain(tiny(shop), Request(shop.registry)))


def test_what_was_rolled_back_is_not_built_again(shop: Workshop) -> None:
    """The next `build` would undo a rollback without a word."""
    changed = tiny(shop, calibration='data = "../images"\nmethod = "minmax"')
    assert shop.build(changed)[0].version == 2
    assert rollback(shop.registry, "tiny-int8") == 3
    assert reasons(shop, changed) == []
    assert reasons(shop, tiny(shop)) == []
    gc(shop.registry, keep=1)
    assert shop.registry.versions("tiny-int8") == (3,)
    verify_files(shop.registry, "tiny-int8", 3)
    assert reasons(shop, changed) == []


def test_a_missed_gate_publishes_nothing_and_keeps_the_report(shop: Workshop) -> None:
    """A bad engine would go live, or the author would not learn which output, how far, and what to try."""
    before = [read_report(shop.registry, f"tiny-{p}", 1).fidelity["scores"].sqnr_db for p in ("int8", "fp16")]
    bound = round(sum(before) / 2, 1)
    int8, fp16 = shop.build(tiny(shop, gates=f"[verify.gates.outputs.scores]\nsqnr_db = {bound}"))
    assert isinstance(int8.error, GateMissed)
    assert int8.report is not None
    assert shop.registry.versions("tiny-int8") == (1,)
    measured = int8.report.fidelity["scores"].sqnr_db
    assert measured < bound
    assert f"sqnr_db of scores is {measured:.6g}, must be >= {bound:g}" in int8.error.message
    assert 'exclude = ["conv2"]' in int8.error.hint or 'exclude = ["classify"]' in int8.error.hint
    kept = shop.registry.private / "failed" / "tiny-int8"
    assert {file.name for file in kept.iterdir()} == RECORDS - {"manifest.json"}
    assert str(kept / "report.html") in int8.error.message
    assert fp16.error is None
    assert fp16.version == 2


def test_the_advice_of_a_missed_gate_helps(shop: Workshop) -> None:
    """It named an activation, which runs fused into its convolution: keeping it in float changed no byte."""
    missed = shop.build(shop.spec("missed", gates="sqnr_db = 100.0"))[0]
    assert missed.report is not None
    assert missed.error is not None
    advised = missed.error.hint.rpartition("[quantization] ")[2]
    helped = shop.build(shop.spec("helped", more=f"[quantization]\n{advised}", gates="sqnr_db = 100.0"))[0]
    assert helped.report is not None
    assert helped.report.fidelity["scores"].sqnr_db > missed.report.fidelity["scores"].sqnr_db


def test_verify_and_bench_judge_what_is_published(shop: Workshop) -> None:
    """A published engine could not be judged on another day or machine, or would be judged by other rules."""
    recorder = Recorder()
    request = Request(shop.registry, threads=1, listener=recorder)
    report = verify_published(shop.registry, "tiny-int8", None, request)
    assert report.passed
    assert [g.bound for g in report.gates] == [g.bound for g in read_manifest(shop.registry, "tiny-int8", 1).gates]
    assert recorder.ran == ["verify"]
    timed = bench_published(shop.registry, "tiny-int8", 1, request, runs=7, batch=3)
    assert (timed.engine.runs, timed.fp32.runs, timed.engine.batch) == (7, 7, 3)
    assert list(shop.registry.staging.iterdir()) == []


@pytest.mark.parametrize("which", ["engine", "record", "config"])
def test_verify_refuses_a_version_with_one_changed_byte(which: str, shop: Workshop) -> None:
    """A changed engine would get a good report, or the proof of another."""
    registry = shop.registry
    file = {
        "engine": registry.engine("tiny-int8", 1) / "model.onnx",
        "record": registry.record("tiny-int8", 1) / "report.json",
        "config": registry.engines / "tiny-int8" / "config.pbtxt",
    }[which]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(RegistryError, match="torn") as caught:
        verify_published(registry, "tiny-int8", None, Request(registry))
    assert file.name in str(caught.value)


def test_verify_refuses_other_data_and_another_model(shop: Workshop) -> None:
    """An engine would be judged by what it was not made from, and the verdict would mean nothing."""
    spec = shop.spec("moved", precision='"fp16"')
    assert shop.build(spec)[0].version == 1
    write_model(shop.model, seed=1)
    with pytest.raises(RegistryError, match="the model is not what moved@1 was built"):
        verify_published(shop.registry, "moved", None, Request(shop.registry))
    write_model(shop.model)
    for number in range(30, 60):
        write_image(shop.images / f"{number}.png", number)
    with pytest.raises(RegistryError, match="the held-out data is not what moved@1 was built"):
        verify_published(shop.registry, "moved", None, Request(shop.registry))


@pytest.mark.parametrize("content", [None, b"", b'{"name": 1}'])
def test_a_torn_report_is_told(content: bytes | None, shop: Workshop) -> None:
    """`show` would call a damaged disk a bug in trtd."""
    path = shop.registry.record("tiny-int8", 1) / "report.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RegistryError, match="the report of tiny-int8@1 is missing or torn"):
        read_report(shop.registry, "tiny-int8", 1)


def test_the_spec_of_another_trtd_is_told(shop: Workshop) -> None:
    """An engine that a newer trtd published would crash `verify` instead of saying so."""
    path = shop.registry.record("tiny-int8", 1) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["spec"]["engine"]["sparsity"] = "2:4"
    path.write_text(json.dumps(manifest))
    with pytest.raises(RegistryError, match="is none that this trtd reads"):
        verify_published(shop.registry, "tiny-int8", None, Request(shop.registry))


def test_calibrate_alone(shop: Workshop) -> None:
    """The table could not be had without an engine, or would be made a second time."""
    recorder = Recorder()
    path, table = calibrate(tiny(shop), Request(shop.registry, listener=recorder))
    assert recorder.ran == []
    assert read_table(path) == table
    assert table.samples == 16
    with pytest.raises(TrtdError, match="no int8 engine"):
        calibrate(shop.spec("half", precision='"fp16"'), Request(shop.registry))


def test_a_cancelled_build_publishes_nothing(shop: Workshop) -> None:
    """A daemon that shuts down would have to wait, or would publish what nobody asked for any more."""
    cancel = threading.Event()
    cancel.set()
    request = replace(Request(shop.registry), cancel=cancel)
    (outcome,) = build_engines(shop.spec("late", precision='"fp16"'), request)
    assert isinstance(outcome.error, StageError)
    assert "cancelled" in outcome.error.message
    assert "late" not in shop.registry.names()
    assert list(shop.registry.staging.iterdir()) == []


def test_two_builds_of_one_name_at_once_do_no_harm(shop: Workshop) -> None:
    """They shared a job file: each worker ran the other's job, and the store kept an empty result for ever."""
    write_model(shop.model, seed=4)
    spec = shop.spec("race", precision='"fp16"')
    command = [sys.executable, "-m", "trtd", "build", str(spec), "--registry", str(shop.registry.root), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [(json.loads(build.communicate(timeout=120)[0]), build.returncode) for build in both]
    assert 0 in {status for _, status in told}
    assert {status for _, status in told} <= {0, 3}
    assert {answer["error"]["code"] for answer, status in told if status == 3} <= {"registry-busy"}
    for version in shop.registry.versions("race"):
        verify_files(shop.registry, "race", version)
    (outcome,) = shop.build(spec)
    assert outcome.error is None
    assert not outcome.built


def test_a_stage_that_leaves_too_little_is_not_stored(shop: Workshop, stand_in: Callable[[str, str], None]) -> None:
    """A stage that ended well without its files would be taken from the store ever after."""
    write_model(shop.model, seed=4)
    stand_in("convert", "stand_in_stages:succeed")
    spec = shop.spec("little", precision='"fp16"')
    (outcome,) = shop.build(spec)
    assert isinstance(outcome.error, WorkerSilent)
    assert "folded.onnx" in outcome.error.message
    (plan, _) = explain(spec, Request(shop.registry))[0]
    assert shop.registry.store.get(plan.stage_key("convert")) is None


# ----------------------------------------------------------------------------------------- what the operator has fixed


def test_limits_are_the_smaller_of_spec_and_operator() -> None:
    """A spec could raise what the operator fixed, or would be held to more than it asks for."""
    wanted = BuildSection(deadline_s=100.0, memory_limit_bytes=2**27)
    assert Bounds().limits(wanted) == wanted
    less = Bounds(deadline_s=10.0, memory_limit_bytes=2**26).limits(wanted)
    assert (less.deadline_s, less.memory_limit_bytes) == (10.0, 2**26)
    more = Bounds(deadline_s=1000.0, memory_limit_bytes=2**30).limits(wanted)
    assert (more.deadline_s, more.memory_limit_bytes) == (100.0, 2**27)
    assert Bounds(memory_limit_bytes=2**26).limits(BuildSection()).memory_limit_bytes == 2**26


def test_what_the_operator_forbids_is_told_with_its_line(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec could publish what nobody verified, or run code, on a machine whose operator says no."""
    monkeypatch.setenv("TRTD_ALLOW_HOOKS", "1")
    (shop.folder / "specs" / "metrics.py").write_text("def always(outputs, expected):\n    return 1.0\n")
    spec = tiny(shop, verify='metric = "metrics.py:always"', more="[publish]\nunverified = true")
    free = Request(shop.registry)
    assert explain(spec, free)
    bound = replace(free, bounds=Bounds(hooks_allowed=False, unverified_allowed=False))
    with pytest.raises(SpecError) as caught:
        build_engines(spec, bound)
    told = {found.key: found for found in caught.value.diagnostics}
    assert told.keys() == {"verify.metric", "publish.unverified"}
    assert all("the operator forbids" in found.message and found.line for found in told.values())
    assert explain(spec, replace(free, bounds=Bounds(hooks_allowed=True)))


def test_the_operators_roots_are_all_that_is_open(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, the specs' neighbourhood or the environment would open what the operator closed."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("TRTD_ALLOWED_ROOTS", str(shop.folder))
    closed = Request(shop.registry, extra_roots=(shop.folder,), bounds=Bounds(roots=()))
    for key in ("model.path", "calibration.data"):
        inside = shop.registry.models / "tiny.onnx"
        inside.write_bytes(shop.model.read_bytes())
        spec = tiny(shop, model='path = "../registry/models/tiny.onnx"') if key == "calibration.data" else tiny(shop)
        with pytest.raises(SpecError, match="outside the folders") as caught:
            explain(spec, closed)
        assert [found.key for found in caught.value.diagnostics] == [key]
    assert explain(tiny(shop), replace(closed, bounds=Bounds(roots=(shop.model.parent, shop.images))))


def test_a_link_out_of_the_operators_roots_leads_nowhere(shop: Workshop, outside: Path) -> None:
    """A link in an allowed folder would open any file of the machine."""
    (outside / "secret.png").write_bytes((shop.images / "00.png").read_bytes())
    (shop.images / "link.png").symlink_to(outside / "secret.png")
    with pytest.raises(TrtdError, match="outside"):
        explain(tiny(shop), Request(shop.registry, bounds=Bounds(roots=(shop.folder,))))


def test_a_stalled_plan_is_not_tried_and_the_others_are(shop: Workshop) -> None:
    """A plan that must fail would be built again for every file that is touched, or hold up its neighbours."""
    changed = tiny(shop, calibration='data = "../images"\nmethod = "minmax"', gates="cosine = 0.9")
    int8, fp16 = (plan.digest for plan, _ in explain(changed, Request(shop.registry)))
    recorder = Recorder()
    request = Request(shop.registry, threads=1, listener=recorder, stalled_plans=frozenset({int8}))
    outcomes = build_engines(changed, request)
    assert [(o.plan_digest, o.unchanged, o.built, o.error) for o in outcomes] == [
        (int8, True, False, None),
        (fp16, False, True, None),
    ]
    assert (outcomes[0].version, outcomes[0].record, outcomes[0].report) == (None, None, None)
    assert shop.registry.versions("tiny-int8") == (1,)
    assert shop.registry.versions("tiny-fp16") == (1, 2)
    done = build_engines(changed, replace(request, stalled_plans=frozenset({fp16})))[1]
    assert (done.unchanged, done.built, done.version) == (False, False, 2)


def test_a_cancelled_build_begins_no_further_engine(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping a build of many engines would take a moment for each."""
    cancel = threading.Event()
    cancel.set()
    recorder = Recorder()
    outcomes = build_engines(tiny(shop, gates="cosine = 0.9"), Request(shop.registry, listener=recorder, cancel=cancel))
    assert recorder.heard == []
    assert [(o.built, o.version) for o in outcomes] == [(False, None)] * 2
    assert all(isinstance(o.error, StageError) for o in outcomes)
