"""The seven silent failures that must be impossible: each is tried for real, on a real model, and must be loud."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import trtd
from tests.workshop import Recorder, Workshop, write_image, write_model
from trtd.calibrate.table import read_table
from trtd.errors import DataError, GateMissed, SpecError, TrtdError
from trtd.pipeline.build import Request, explain
from trtd.pipeline.intake import take_in
from trtd.pipeline.planning import make_plans
from trtd.pipeline.staleness import read_report
from trtd.plan.build_plan import STAGE_INGREDIENTS
from trtd.registry.manifest import read_manifest
from trtd.registry.rollback import rollback
from trtd.spec.load import load_spec
from trtd.spec.schema import Gates
from trtd.verify.gates import Speed, judge
from trtd.verify.metrics import FidelityAccumulator
from trtd.verify.report import Fidelity

FAST = Speed(9.0, None, native_fp16=False)


def failure(shop: Workshop, spec: Path) -> TrtdError:
    """The error that a build ends in, after which nothing may be published or stay in the staging area."""
    found: TrtdError
    published = shop.registry.names()
    try:
        outcomes = shop.build(spec)
    except TrtdError as error:
        found = error
    else:
        (outcome,) = outcomes
        assert outcome.error is not None, "it was built"
        assert outcome.version is None
        found = outcome.error
    assert shop.registry.names() == published
    assert list(shop.registry.staging.iterdir()) == []
    return found


# -- 1


def test_1_nothing_is_calibrated_on_random_data(shop: Workshop) -> None:
    """Without data, a builder that makes some up gives an engine whose ranges mean nothing, and calls it done."""
    with pytest.raises(SpecError, match="int8 must be calibrated on real data"):
        load_spec(shop.spec("none", calibration=""))
    (shop.folder / "empty").mkdir()
    assert isinstance(failure(shop, shop.spec("empty", calibration='data = "../empty"')), DataError)
    assert isinstance(failure(shop, shop.spec("absent", calibration='data = "../absent/*.png"')), DataError)
    table = read_table(shop.registry.record("tiny-int8", 1) / "calibration.json")
    feed = take_in(shop.spec(), registry=shop.registry)[0].data.calibration
    assert feed is not None
    assert (table.samples, table.set_digest) == (len(feed.items), feed.digest)
    source = Path(str(trtd.__file__)).parent
    rooms = [file for file in source.rglob("*.py") if "daemon" not in file.parts]  # it draws the time of its next scan
    code = {file: file.read_text() for file in rooms}
    drawn = [file for file, text in code.items() if re.search(r"\bimport random\b|\brandom\.|\bdefault_rng\b", text)]
    assert drawn == []


# -- 2


def test_2_one_sample_or_the_heldout_set_do_not_calibrate(shop: Workshop) -> None:
    """One sample knows no range; an engine that saw its judge's questions passes any exam."""
    few = shop.folder / "few"
    few.mkdir()
    for number in range(9):  # 8 are held out
        write_image(few / f"{number}.png", number)
    error = failure(shop, shop.spec("few", calibration='data = "../few"'))
    assert isinstance(error, DataError)
    assert "leaves 1 for calibration; at least 2" in error.message
    for name in ("same", "copied"):
        held = shop.images if name == "same" else shop.folder / "copied"
        if name == "copied":
            held.mkdir()
            shutil.copyfile(shop.images / "03.png", held / "another name.png")
        spec = shop.spec(name, verify=f'data = "../{held.name}/*.png"')
        error = failure(shop, spec)
        assert isinstance(error, DataError)
        assert "calibration and held-out data share" in error.message
    manifest = read_manifest(shop.registry, "tiny-int8", 1)
    assert manifest.calibration_digest != manifest.heldout_digest


# -- 3


@pytest.mark.parametrize("of", ["calibration", "heldout"])
def test_3_a_bad_item_is_not_the_end_of_the_data(of: str, shop: Workshop) -> None:
    """A reader that stops at the first bad item calibrates, or judges, on whatever came before it."""
    spec = shop.spec("torn")
    data = take_in(spec, registry=shop.registry)[0].data
    feed = data.heldout if of == "heldout" else data.calibration
    assert feed is not None
    victim = shop.images / feed.items[len(feed.items) // 2][0]
    victim.write_bytes(victim.read_bytes()[:-40])
    error = failure(shop, spec)
    assert isinstance(error, DataError)
    assert error.where == str(victim)
    assert "cannot decode the image" in error.message
    recorder = Recorder()
    shop.build(spec, recorder)
    stage = "reference" if of == "heldout" else "calibrate"
    assert recorder.heard[-2:] == [f"{stage} started", f"{stage} failed"]


# -- 4


def test_4_nothing_compared_is_no_pass(shop: Workshop) -> None:
    """An output of no values agrees with any other of no values."""
    (gate, *_) = judge(
        Gates(),
        "fp32",
        fidelity={"y": FidelityAccumulator().result()},
        speed=FAST,
        metric=None,
        worst=None,
    )
    assert not gate.passed
    report = read_report(shop.registry, "tiny-int8", 1)
    assert report.passed
    assert not report.model_copy(update={"gates": ()}).passed
    model = onnx.load(shop.model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "none"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    model.graph.node.append(helper.make_node("Slice", ["scores", "none", "none", "axis"], ["boxes"], "slice"))
    model.graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 0]))
    onnx.save(model, shop.model)
    error = failure(shop, shop.spec("void", precision='"fp32"'))
    assert isinstance(error, GateMissed)
    assert "cosine of boxes is NaN" in error.message


def test_4_top1_agreement_without_class_scores_is_no_pass(shop: Workshop) -> None:
    """A gate that the author asked for by name would be skipped where it cannot be measured."""
    model = onnx.load(shop.model)
    model.graph.output.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT, ["N", 8, 8, 8]))
    onnx.save(model, shop.model)
    gates = "[verify.gates.outputs.c2]\ntop1_agreement = 0.1"
    error = failure(shop, shop.spec("maps", precision='"fp32"', gates=gates))
    assert isinstance(error, GateMissed)
    assert "top1_agreement of c2 is NaN, must be >= 0.1" in error.message


# -- 5


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_5_every_output_that_is_measured_is_gated(precision: str) -> None:
    """A report full of bad numbers would stand beside a published engine."""
    measured = Fidelity(elements=5, cosine=1.0, sqnr_db=90.0, relative_l2=0.0, max_abs_error=0.0)
    for gates in (Gates(), Gates.model_validate({"outputs": {"a": {"sqnr_db": 1.0}}}), Gates(min_speedup=0.5)):
        judged = judge(
            gates,
            precision,
            fidelity={"a": measured, "b": measured},
            speed=FAST,
            metric=None,
            worst=None,
        )
        assert {gate.output for gate in judged} >= {"a", "b"}
        bad = measured.model_copy(update={"cosine": 0.1, "relative_l2": 3.0})
        judged = judge(gates, precision, fidelity={"a": measured, "b": bad}, speed=FAST, metric=None, worst=None)
        assert {gate.output for gate in judged if not gate.passed} == {"b"}


def test_5_a_gate_for_an_output_that_is_not_there_is_refused(shop: Workshop) -> None:
    """A misspelt output leaves the real one to the defaults, and the author in the belief that it is guarded."""
    spec = shop.spec("typo", gates="[verify.gates.outputs.score]\nsqnr_db = 500.0")
    assert isinstance(failure(shop, spec), SpecError)


# -- 6


def test_6_a_cache_is_asked_by_content_and_not_by_name(shop: Workshop) -> None:
    """The old model, table or verdict would be published under the new model's name."""
    spec = shop.spec("mine", precision='"fp32"')
    first = Recorder()
    assert shop.build(spec, first)[0].version == 1
    write_model(shop.model, seed=3)
    second = Recorder()
    (outcome,) = shop.build(spec, second)
    assert (outcome.version, second.ran) == (2, ["convert", "reference", "quantize", "verify"])
    one, two = (shop.registry.engine("mine", version).joinpath("model.onnx").read_bytes() for version in (1, 2))
    assert one != two


def test_6_every_stage_is_cached_under_the_versions_of_its_tools(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade, graphs and tables of the old converter or runtime would be mixed with the new ones'."""
    spec = shop.folder / "specs" / "tiny.toml"

    def keys() -> dict[str, str]:
        (plan, _) = make_plans(take_in(spec, registry=shop.registry)[0])
        return {stage: plan.stage_key(stage) for stage in STAGE_INGREDIENTS}

    before = keys()
    assert keys() == before
    for tool in ("onnx", "onnxruntime"):
        others = {tool: "99.0"}
        monkeypatch.setattr("trtd.pipeline.tools.version", lambda name, o=others: o.get(name) or version(name))
        assert not set(keys().values()) & set(before.values())
        assert all(why for _, why in explain(spec, Request(shop.registry)))


# -- 7


def test_7_no_state_file_is_rewritten_in_place(shop: Workshop) -> None:
    """A reader, or a crash, would catch half of the old file and half of the new."""
    missed = shop.spec("missed", precision='"fp16"', gates="sqnr_db = 500.0")
    shop.build(missed)
    kept = shop.folder / "kept"
    kept.mkdir()
    root = shop.registry.root
    before: dict[Path, str] = {}
    for file in sorted(root.rglob("*")):
        private = file.relative_to(root).parts[:2]
        if file.is_file() and private not in ((".trtd", "logs"), (".trtd", "locks")):  # appended to; held, never read
            link = kept / str(len(before))
            os.link(file, link)  # keeps the old content, unless somebody writes into it
            before[link] = hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(before) > 20
    shop.build(missed)
    shop.build(shop.spec(precision='["int8", "fp16"]', calibration='data = "../images"\nmethod = "minmax"'))
    wider = "[model.inputs.x]\nmin = [1, 3, 8, 8]\nopt = [1, 3, 8, 8]\nmax = [4, 3, 8, 8]"
    assert shop.build(shop.spec("tiny-fp16", precision='"fp16"', more=wider))[0].version == 2  # another config.pbtxt
    rollback(shop.registry, "tiny-int8")
    assert {link: hashlib.sha256(link.read_bytes()).hexdigest() for link in before} == before
