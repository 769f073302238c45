"""The stages: what each leaves behind, and what becomes of a build when one of them dies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.workshop import Recorder, Workshop, write_model
from trtd.calibrate.table import read_table
from trtd.document import Document
from trtd.errors import DataError, ModelError, QuantizationError
from trtd.pipeline.contracts import (
    STAGE_FILES,
    BenchInputs,
    CalibrateInputs,
    ConvertInputs,
    ConvertResult,
    QuantizeInputs,
    QuantizeSummary,
    ReferenceInputs,
    Timed,
    VerifyInputs,
)
from trtd.pipeline.intake import Intake, take_in
from trtd.pipeline.making import graph_files
from trtd.pipeline.planning import make_plans
from trtd.pipeline.progress import Progress
from trtd.pipeline.stages import STAGES, bench, calibrate, convert, doctor, quantize, reference, verify
from trtd.plan.build_plan import BuildPlan
from trtd.spec.schema import QuantizationSection, VerifySection
from trtd.store.digest import file_digest
from trtd.verify.report import Report

QUIET = Progress("stage", lambda event: None)
StandIn = Callable[[str, str], None]


class Bench:
    """One spec of a workshop, and the stored outputs of the stages that it was built with."""

    def __init__(self, shop: Workshop, **spec: str) -> None:
        self.shop = shop
        file = shop.spec(**{"precision": '["int8", "fp16"]', **spec})
        self.intake: Intake = take_in(file, registry=shop.registry)[0]
        self.plans: dict[str, BuildPlan] = {plan.precision: plan for plan in make_plans(self.intake)}

    def stored(self, stage: str, precision: str = "int8") -> Path:
        found = self.shop.registry.store.get(self.plans[precision].stage_key(stage))
        assert found is not None
        return found

    def run(self, stage: Any, job: Document) -> tuple[Path, dict[str, Any]]:
        """Run a stage in this process, from inputs that went through JSON as those of a worker do."""
        out = self.shop.folder / f"out-{len(list(self.shop.folder.glob('out-*')))}"
        out.mkdir()
        return out, stage.run(job.model_dump(mode="json"), out, QUIET)

    def quantize_inputs(self, precision: str, **changes: Any) -> QuantizeInputs:
        facts: dict[str, Any] = {
            "converted": self.stored("convert"),
            "table": self.stored("calibrate") / "calibration.json" if precision == "int8" else None,
            "method": "mse",
            "percentile": 99.99,
            "target": "onnxruntime-cpu",
            "device": self.intake.fingerprint,
            "precision": precision,
            "quantization": QuantizationSection(),
        }
        return QuantizeInputs.model_validate(facts | changes)

    def verify_inputs(self, precision: str, engine: Path) -> VerifyInputs:
        return VerifyInputs(
            name="tiny",
            target="onnxruntime-cpu",
            precision=precision,
            converted=self.stored("convert"),
            graph=engine,
            summary=engine / "summary.json",
            engine=graph_files("onnxruntime-cpu", engine, "model.onnx"),
            baselines={"fp32": graph_files("onnxruntime-cpu", self.stored("convert"), "model.onnx")},
            unverifiable="",
            engine_bytes=(engine / "model.onnx").stat().st_size,
            tf32=False,
            kernels=self.shop.folder / "kernels",
            reference=self.stored("reference"),
            reference_name="the original",
            outputs=1,
            heldout=self.intake.data.heldout,
            batch=1,
            verify=VerifySection(latency_runs=3),
            labels=None,
            spec_folder=self.shop.folder,
            threads=1,
            tools={},
            notes=("a note",),
        )


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_convert_leaves_two_graphs_and_their_signature(shop: Workshop) -> None:
    """Half-made files would be stored and published, or the manifest would name other inputs than the engine has."""
    work = Bench(shop)
    out, value = work.run(convert, ConvertInputs(source=work.intake.source, facts=work.intake.facts))
    assert names_in(out) == {"model.onnx", "folded.onnx"}
    found = ConvertResult.model_validate(value)
    assert [(i.name, i.dtype, i.shape) for i in found.inputs] == [("x", "float32", (None, 3, 8, 8))]
    assert [o.name for o in found.outputs] == ["scores"]


def test_calibrate_leaves_a_table_of_this_graph_and_set(shop: Workshop) -> None:
    """A table could not be told from that of another model or data, and would be reused for them."""
    work = Bench(shop)
    feed = work.intake.data.calibration
    assert feed is not None
    job = CalibrateInputs(
        converted=work.stored("convert"),
        target="onnxruntime-cpu",
        device=work.intake.fingerprint,
        activation="auto",
        calibration=feed,
        given=None,
        batch=3,
        threads=1,
    )
    out, value = work.run(calibrate, job)
    assert names_in(out) == {"calibration.json"}
    table = read_table(out / "calibration.json")
    assert table.model_digest == file_digest(work.stored("convert") / "folded.onnx")
    assert (table.set_digest, table.samples) == (feed.digest, 16)
    assert value == {"tensors": len(table.tensors), "samples": 16}
    one_by_one = read_table(work.stored("calibrate") / "calibration.json")
    assert {n: t.counts for n, t in table.tensors.items()} == {n: t.counts for n, t in one_by_one.tensors.items()}


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_build_says_what_it_lowered(precision: str, shop: Workshop) -> None:
    """The report would blame operators that the author cannot keep in float, or count none."""
    work = Bench(shop)
    out, _ = work.run(quantize, work.quantize_inputs(precision))
    assert names_in(out) == {"model.onnx", "summary.json"} | ({"calibration.json"} if precision == "int8" else set())
    summary = QuantizeSummary.model_validate_json((out / "summary.json").read_bytes())
    assert summary.lowered == len(summary.nodes) == len(set(summary.nodes))
    assert bool(summary.nodes) == (precision != "fp32")
    assert not set(summary.nodes) & set(summary.kept_float)


def test_build_refuses_an_exclusion_that_matches_nothing(shop: Workshop) -> None:
    """A misspelt name would leave the node in INT8, and the author in the belief that it is not."""
    work = Bench(shop)
    with pytest.raises(QuantizationError, match="exclude names 'convv2'") as caught:
        work.run(quantize, work.quantize_inputs("int8", quantization=QuantizationSection(exclude=["conv1", "convv2"])))
    assert caught.value.hint == "did you mean 'conv2'?"
    out, _ = work.run(quantize, work.quantize_inputs("int8", quantization=QuantizationSection(exclude=["conv[2]"])))
    summary = QuantizeSummary.model_validate_json((out / "summary.json").read_bytes())
    assert "conv2" in summary.kept_float


def test_build_refuses_the_table_of_another_graph(shop: Workshop) -> None:
    """Ranges of another model would clip this one's values, wherever names happen to be alike."""
    work = Bench(shop)
    other = shop.folder / "other"
    shutil.copytree(work.stored("convert"), other)
    write_model(other / "folded.onnx", seed=5)
    with pytest.raises(QuantizationError, match="belongs to another graph"):
        work.run(quantize, work.quantize_inputs("int8", converted=other))
    with pytest.raises(QuantizationError, match="no calibration table"):
        work.run(quantize, work.quantize_inputs("int8", table=None))


def test_reference_keeps_every_output_of_every_item(shop: Workshop) -> None:
    """An item would be judged by the reference of another, or not at all."""
    work = Bench(shop)
    taken = work.intake
    job = ReferenceInputs(source=taken.source, facts=taken.facts, heldout=taken.data.heldout, threads=1)
    out, value = work.run(reference, job)
    assert value == {"outputs": ["scores"]}
    assert sorted(names_in(out)) == [f"{number:05d}-0.npy" for number in range(8)]
    assert all(np.load(file).shape == (1, 5) for file in out.iterdir())


def test_a_model_that_gives_nan_in_fp32_is_told_from_an_engine_that_does(shop: Workshop) -> None:
    """The author would be sent to change the calibration, which changes nothing."""
    model = onnx.load(shop.model)
    last = model.graph.node[-1]
    scores, last.output[0] = last.output[0], "before"
    model.graph.node.append(onnx.helper.make_node("Log", ["before"], [scores]))  # of what is negative
    onnx.save(model, shop.model)
    work = Bench(shop)
    taken = work.intake
    job = ReferenceInputs(source=taken.source, facts=taken.facts, heldout=taken.data.heldout, threads=1)
    with pytest.raises(ModelError, match="in FP32, gives NaN or infinity in output 'scores'") as caught:
        work.run(reference, job)
    assert caught.value.where.endswith(".png")


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_verify_blames_only_what_can_be_kept_in_float(precision: str, shop: Workshop) -> None:
    """The advice of a missed gate would change nothing: an activation runs fused into the operator before it."""
    work = Bench(shop)
    engine = work.stored("quantize", precision)
    out, value = work.run(verify, work.verify_inputs(precision, engine))
    assert names_in(out) == {"report.json"}
    report = Report.model_validate_json((out / "report.json").read_bytes())
    assert value == {"passed": report.passed}
    summary = QuantizeSummary.model_validate_json((engine / "summary.json").read_bytes())
    assert report.worst_tensors
    assert {error.node for error in report.worst_tensors} <= set(summary.nodes)
    assert report.items == 8
    assert report.notes[0] == "a note"
    assert report.notes[1].startswith("Only 8 held-out items")


def test_bench_times_both(shop: Workshop) -> None:
    """The engine would be timed against nothing."""
    work = Bench(shop)
    job = BenchInputs(
        engine=graph_files("onnxruntime-cpu", work.stored("quantize"), "model.onnx"),
        baseline=graph_files("onnxruntime-cpu", work.stored("convert"), "model.onnx"),
        kernels=work.shop.folder / "kernels",
        heldout=work.intake.data.heldout,
        batch=2,
        runs=4,
        threads=1,
    )
    _, value = work.run(bench, job)
    timed = Timed.model_validate(value)
    assert (timed.engine.batch, timed.engine.runs, timed.fp32.runs) == (2, 4, 4)
    assert timed.speedup > 0


def test_doctor_reports_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A broken library would look installed until the first build."""
    (tmp_path / "a_broken_library.py").write_text("raise OSError('libmissing.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    packages = (("numpy", "a_broken_library", "arrays"), ("no-such-distribution", "json", "nothing"))
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    broken, absent = doctor.run({}, tmp_path, QUIET)["packages"]
    assert broken["error"] == "OSError: libmissing.so: cannot open shared object file"
    assert absent["error"] == "not installed"


CRASHES = {
    "convert": ("read_null", "worker-crashed", "SIGSEGV"),
    "calibrate": ("abort_for_memory", "worker-out-of-memory", "ran out of memory"),
    "reference": ("hang", "worker-timeout", "deadline of 1 s"),
    "quantize": ("tear_report", "worker-silent", "left a torn result"),
}


@pytest.mark.parametrize("stage", CRASHES)
def test_a_stage_that_dies_is_named_and_leaves_nothing(stage: str, shop: Workshop, stand_in: StandIn) -> None:
    """A crash in a native library would take the caller along, or leave half an engine, or be stored as a result."""
    function, code, words = CRASHES[stage]
    stand_in(stage, f"stand_in_stages:{function}")
    spec = shop.spec("doomed", more="[build]\ndeadline_s = 1" if function == "hang" else "")
    plan = make_plans(take_in(spec, registry=shop.registry)[0])[0]
    stored = shop.registry.store.get(plan.stage_key(stage))
    assert stored is not None
    shutil.rmtree(stored.parent)
    recorder = Recorder()
    (outcome,) = shop.build(spec, recorder)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.where) == (code, stage)
    assert words in outcome.error.message
    (log,) = shop.registry.logs.glob("doomed*.log")
    assert str(log) in outcome.error.message
    assert f"-m trtd.pipeline.worker {log.with_suffix('.job.json')}" in outcome.error.hint
    assert recorder.heard[-1] == f"{stage} failed"
    assert shop.registry.names() == ("tiny-fp16", "tiny-int8")
    assert shop.registry.store.get(plan.stage_key(stage)) is None
    assert list(shop.registry.staging.iterdir()) == []


def test_a_bad_item_stops_the_stage_and_is_named(shop: Workshop) -> None:
    """The stage's own error would arrive as a crash, without the file that is to blame."""
    work = Bench(shop)
    converted, feed = work.stored("convert"), work.intake.data.calibration
    assert feed is not None
    victim = shop.images / feed.items[len(feed.items) // 2][0]
    victim.write_bytes(victim.read_bytes()[:60])
    job = CalibrateInputs(
        converted=converted,
        target="onnxruntime-cpu",
        device=work.intake.fingerprint,
        activation="auto",
        calibration=feed,
        given=None,
        batch=1,
        threads=1,
    )
    with pytest.raises(DataError) as caught:
        calibrate.run(job.model_dump(mode="json"), shop.folder, QUIET)
    assert caught.value.where == str(victim)


def test_every_stage_has_a_function() -> None:
    """A stage would be missed only when its turn comes."""
    assert {*STAGE_FILES, "doctor"} == set(STAGES)
