"""Models that Paddle has quantized, through the whole pipeline: alone, as a fallback, and made on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtd as api
from tests.quantized.models import LENIENT, SHAPES
from tests.ui.samples import make_report
from tests.workshop import Recorder, Workshop
from trtd.errors import GateMissed, ModelError, SpecError
from trtd.pipeline.build import Outcome
from trtd.pipeline.fallback import missed_fidelity
from trtd.registry.lookup import current
from trtd.registry.manifest import verify_files
from trtd.verify.report import Gate

pytest.importorskip("paddle2onnx", reason="it has no release for Python 3.13")

Place = Callable[..., None]
Trtd = Callable[..., Any]

FLOAT = 'path = "../models/float"\n'


def spec(
    shop: Workshop,
    model: str,
    *,
    calibrated: bool,
    engine: str = "",
    gates: str = LENIENT,
    more: str = "",
    tight: bool = False,
) -> Path:
    data = 'data = "../items"'
    tightly = TIGHT if tight else ""
    return shop.spec(
        "net",
        model=f'path = "../models/{model}"\n{SHAPES}',
        precision=f'"int8"\n{engine}',
        calibration=f"{data}\nsamples = 16\n{tightly}" if calibrated else "",
        verify="" if calibrated else data,
        gates=gates,
        more=more,
    )


def built(shop: Workshop, path: Path, recorder: Recorder | None = None) -> Outcome:
    (outcome,) = shop.build(path, recorder)
    assert outcome.error is None, outcome.error
    assert outcome.report is not None
    return outcome


@pytest.mark.parametrize("imported", ["target", "paddle"])
def test_a_quantized_model_is_recognized_and_needs_no_calibration(imported: str, works: Workshop) -> None:
    """Its author has calibrated or trained it; doing so again would throw that away."""
    recorder = Recorder()
    path = spec(works, "calibrated", calibrated=False, more=f'[quantization]\nimported = "{imported}"')
    report = built(works, path, recorder).report
    assert report is not None
    assert "calibrate" not in recorder.ran
    assert report.reference.endswith("FP32, quantized")
    assert any("scales are its own" in note for note in report.notes)
    bound = 1e-2 if imported == "paddle" else 0.1  # onnxruntime rounds biases, Paddle does not
    assert max(fidelity.relative_l2 for fidelity in report.fidelity.values()) < bound
    manifest, _ = current(works.registry, "net")
    assert (manifest.calibration_digest, manifest.scales_digest) == (None, None)
    with api.load(works.registry.root, "net") as engine:
        assert {i.name for i in engine.inputs} == {"image", "tokens"}


def test_a_quantized_model_becomes_a_tensorrt_engine(works: Workshop, gpus_here: Place) -> None:
    gpus_here("8.9")
    report = built(works, spec(works, "calibrated", calibrated=False, engine='target = "tensorrt"')).report
    assert report is not None
    assert report.proof == "verified"


def test_the_older_form_is_refused_with_the_option_that_helps(works: Workshop) -> None:
    with pytest.raises(Exception, match="Paddle's older form") as told:
        works.build(spec(works, "fake", calibrated=False))
    assert "onnx_format=True" in told.value.hint  # type: ignore[attr-defined]


def test_a_float_model_without_calibration_is_still_a_fault(works: Workshop) -> None:
    """Only the model says whether it needs calibrating; whoever forgot it must be told before anything runs."""
    with pytest.raises(SpecError, match="int8 must be calibrated on real data"):
        works.build(spec(works, "float", calibrated=False))


def test_trtd_does_not_calibrate_what_has_scales(works: Workshop, trtd: Trtd) -> None:
    path = spec(works, "calibrated", calibrated=True)
    done = trtd("calibrate", path, "--registry", works.registry.root)
    assert done.status == 2
    assert "it has its own scales" in done.err


FALLBACK = 'quantized_model = "../models/calibrated"'
# Ranges that clip a tenth of all values: a calibration that does not suffice.
TIGHT = 'method = "percentile"\npercentile = 90.0'


def test_the_quantized_model_is_taken_where_calibration_misses_a_gate(works: Workshop, trtd: Trtd) -> None:
    """Paddle's guide: calibrate first, and take the PaddleSlim model where fidelity does not suffice."""
    gates = "cosine = 0.9\nrelative_l2 = 0.15"
    alone = spec(works, "float", calibrated=True, gates=gates, tight=True)
    (missed,) = works.build(alone)
    assert isinstance(missed.error, GateMissed)
    recorder = Recorder()
    path = spec(works, "float", calibrated=True, engine=FALLBACK, gates=gates, tight=True)
    report = built(works, path, recorder).report
    assert recorder.ran.count("verify") == 2
    assert report is not None
    (note,) = [note for note in report.notes if "Calibration alone missed" in note]
    assert "must be" in note
    assert not report.reference.endswith("quantized")
    manifest = verify_files(works.registry, "net", 1)
    assert manifest.scales_digest is not None
    assert manifest.model_digest != manifest.scales_digest
    again = trtd("verify", "net", "--registry", works.registry.root, "--json")
    assert again.status == 0, again.err
    judged = again.document["data"]["report"]
    assert judged["fidelity"] == json.loads(report.model_dump_json())["fidelity"]
    assert judged["notes"] == list(report.notes)
    assert [o.built for o in works.build(path)] == [False]
    program = works.folder / "models" / "calibrated" / "inference.pdiparams"
    program.write_bytes(program.read_bytes()[:-4] + bytes(4))
    done = trtd("verify", "net", "--registry", works.registry.root)
    assert done.status != 0


@pytest.mark.parametrize(
    ("names", "found"),
    [([], None), (["min_speedup"], None), (["min_speedup", "relative_l2"], "relative_l2"), (["metric"], "metric")],
)
def test_speed_that_calibration_misses_no_other_scales_would_mend(names: list[str], found: str | None) -> None:
    gates = tuple(
        Gate(name=name, output="", comparison=">=", bound=1.0, measured=0.5, passed=False, advice="") for name in names
    )
    missed = missed_fidelity(make_report().model_copy(update={"gates": gates}))
    assert (missed and missed.name) == found


@pytest.mark.parametrize(
    ("model", "fallback", "said"),
    [
        ("float", "../models/float", "is not quantized"),
        ("trained", "../models/calibrated", "both models of the spec are quantized"),
        ("float", "../models/tiny", "tiny"),
    ],
)
def test_a_fallback_that_is_none(model: str, fallback: str, said: str, works: Workshop) -> None:
    with pytest.raises(ModelError, match=said):
        works.build(spec(works, model, calibrated=True, engine=f'quantized_model = "{fallback}"'))


PTQ = '[quantization]\nproducer = "paddle-ptq"\n[quantization.ptq]\nalgorithm = "abs_max"\nskip = ["linear_6.w_0"]'


def test_paddle_makes_the_quantized_model_where_it_is_asked_to(works: Workshop, trtd: Trtd) -> None:
    recorder = Recorder()
    path = spec(works, "float", calibrated=True, more=PTQ)
    report = built(works, path, recorder).report
    assert report is not None
    assert "produce" in recorder.ran
    assert "calibrate" not in recorder.ran
    assert any("Paddle's post-training quantization" in note for note in report.notes)
    assert not report.reference.endswith("quantized")
    summary = json.loads((works.registry.record("net", 1) / "summary.json").read_text())
    assert "it is not quantized in the Paddle model" in summary["kept_float"].values()
    assert trtd("verify", "net", "--registry", works.registry.root).status == 0
    fewer = Recorder()
    path.write_text(path.read_text().replace("cosine = 0.5", "cosine = 0.6"))
    built(works, path, fewer)
    assert fewer.ran == ["verify"]
