"""TensorRT engines through the whole pipeline, on a stand-in GPU: built, judged, timed, published, proved later."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import trtd as api
from tests.workshop import Recorder, Workshop, taken, write_image
from trtd.calibrate.table import read_table
from trtd.errors import EngineError, EnvironmentMissing, GateMissed, RegistryError, StageError
from trtd.pipeline.build import Outcome, Request, build, log_file
from trtd.registry.lookup import current
from trtd.registry.manifest import verify_files

Place = Callable[..., None]
Trtd = Callable[..., Any]

SHAPES = """\
[model.inputs.x]
min = [1, 3, 8, 8]
opt = [2, 3, 8, 8]
max = [8, 3, 8, 8]
"""


def spec(shop: Workshop, target: str, precision: str, *, engine: str = "", verify: str = "", more: str = "") -> Path:
    return shop.spec(
        "cnn",
        precision=f"{precision}\ntarget = {target}\n{engine}",
        model=f'path = "../models/tiny.onnx"\n{SHAPES}',
        verify=verify,
        more=more,
    )


def built(shop: Workshop, path: Path, recorder: Recorder | None = None) -> dict[str, Outcome]:
    outcomes = shop.build(path, recorder)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    return {outcome.name: outcome for outcome in outcomes}


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_three_precisions_are_built_judged_on_the_gpu_and_published(
    target: str, own: Workshop, gpus_here: Place, trtd: Trtd
) -> None:
    """The same spec as on a CPU, with another target; the report says what was measured, and where."""
    gpus_here("8.9")
    path = spec(own, f'"{target}"', '["fp32", "fp16", "int8"]')
    outcomes = built(own, path)
    report = outcomes["cnn-int8"].report
    assert report is not None
    assert report.proof == "verified"
    assert report.device_times is not None
    assert report.device_times.gpu == "Stand-in GPU 0 (8.9)"
    assert report.device_times.fp16 is not None
    assert report.speedup == report.device_times.fp32.p50_ms / report.device_times.engine.p50_ms
    assert report.speedup_over_fp16 is not None
    assert f"{target}: the kernels of this engine are stand-ins" in report.notes
    manifest, folder = current(own.registry, "cnn-int8")
    assert manifest.proof == "verified"
    assert [file.name for file in folder.iterdir()] == ["model.plan"]
    shown = trtd("show", "cnn-int8", "--layers", "--registry", own.registry.root, "--json").document["data"]["layers"]
    assert shown["quantizable"] == 3
    assert shown["not_in_8_bits"] == []
    x = np.zeros((5, 3, 8, 8), np.float32)
    with api.load(own.registry.root, "cnn-int8") as engine, api.load(own.registry.root, "cnn-fp32") as fp32:
        assert np.abs(engine.run({"x": x})["scores"] - fp32.run({"x": x})["scores"]).max() < 0.5
        with pytest.raises(EngineError, match=r"built for \[1, 3, 8, 8\] to \[8, 3, 8, 8\]"):
            engine.run({"x": np.zeros((9, 3, 8, 8), np.float32)})
    assert [o.built for o in own.build(path)] == [False, False, False]


def test_int8_that_silently_runs_otherwise_is_told(own: Workshop, gpus_here: Place) -> None:
    """NVIDIA/TensorRT issues 585, 993 and 3724: the engine is slower than hoped, and nobody says why."""
    gpus_here("8.9", fault="no-int8")
    report = built(own, spec(own, '"tensorrt"', '"int8"'))["cnn"].report
    assert report is not None
    assert any("3 of 3 quantized nodes do not run in 8 bits" in note for note in report.notes)


def test_an_fp16_that_does_not_pay_is_not_published(own: Workshop, gpus_here: Place) -> None:
    """On a GPU, FP16 exists to be faster; at batch 1 it may not be."""
    gpus_here("8.9")
    path = spec(own, '"tensorrt"', '"fp16"')
    path.write_text(path.read_text().replace("min_speedup = 0.001", "min_speedup = 1000.0"))
    (outcome,) = own.build(path)
    assert isinstance(outcome.error, GateMissed)
    assert "min_speedup" in outcome.error.message
    assert own.registry.names() == ()


def test_the_fp16_of_the_same_spec_is_a_baseline_that_int8_can_be_held_to(own: Workshop, gpus_here: Place) -> None:
    """INT8 that beats FP32 and loses to FP16 is common: TensorRT-RTX 1.6.1 did so on an H100 with a transformer."""
    gpus_here("8.9")
    path = spec(own, '"tensorrt"', '["fp16", "int8"]')
    path.write_text(path.read_text().replace("[verify.gates]", "[verify.gates]\nmin_speedup_over_fp16 = 1000.0"))
    outcomes = {outcome.name: outcome for outcome in own.build(path)}
    assert "min_speedup_over_fp16" in str(outcomes["cnn-int8"].error)


def test_repeats_build_and_judge_again(own: Workshop, gpus_here: Place) -> None:
    """Kernels are chosen by timing: the next build of the same graph may take others."""
    gpus_here("8.9")
    recorder = Recorder()
    outcome = built(own, spec(own, '"tensorrt"', '"fp16"', verify="repeats = 3"), recorder)["cnn"]
    assert outcome.report is not None
    assert len(outcome.report.repeats) == 2
    assert all(repeat.passed for repeat in outcome.report.repeats)
    assert recorder.ran.count("build") == 4  # three of FP16, one of FP32
    assert recorder.ran.count("verify") == 3
    assert outcome.record is not None
    timings = [line for line in (outcome.record / "build.log").read_text().splitlines() if "timing cache:" in line]
    assert [line.partition("timing cache: ")[2].split()[0] for line in timings[-2:]] == ["0", "0"]


def test_kernel_timings_are_reused_and_it_is_told(own: Workshop, gpus_here: Place) -> None:
    gpus_here("8.9")
    built(own, spec(own, '"tensorrt"', '"fp32"'))
    kept = list((own.registry.private / "cache").rglob("*.timings"))
    assert [file.name for file in kept] == ["GPU-stand-in-0.timings"]
    outcome = built(own, spec(own, '"tensorrt"', '"fp16"'))["cnn"]
    assert outcome.record is not None
    assert "kernel timings reused" in (outcome.record / "build.log").read_text()


def test_a_list_of_targets_is_one_engine_for_each(own: Workshop, gpus_here: Place) -> None:
    gpus_here("8.9")
    outcomes = built(own, spec(own, '["onnxruntime-cpu", "tensorrt", "tensorrt-rtx"]', '"fp32"'))
    assert sorted(outcomes) == ["cnn-onnxruntime-cpu", "cnn-tensorrt", "cnn-tensorrt-rtx"]
    for name, outcome in outcomes.items():
        assert outcome.report is not None
        assert name == f"cnn-{outcome.report.target}"


AHEAD = 'compute_capabilities = ["8.6", "8.9"]'
UNVERIFIED = "[publish]\nunverified = true"


def test_ahead_of_time_is_refused_unless_the_spec_publishes_unverified(own: Workshop, gpus_here: Place) -> None:
    """ "Proved against FP32" is the product; an engine that never ran on a GPU is not proved."""
    gpus_here()
    path = spec(own, '"tensorrt-rtx"', '"fp16"', engine=AHEAD)
    recorder = Recorder()
    (outcome,) = own.build(path, recorder)
    assert outcome.error is not None
    assert "unverified = true" in outcome.error.hint
    assert "build" not in recorder.ran
    assert own.registry.names() == ()


def test_engines_built_ahead_are_emulated_published_and_proved_where_their_gpu_is(
    own: Workshop, gpus_here: Place, trtd: Trtd
) -> None:
    """A build server has no GPU, the GPU box builds nothing: between them, the record must stay true."""
    gpus_here()
    registry = own.registry.root
    path = spec(own, '"tensorrt-rtx"', '["fp32", "int8"]', engine=AHEAD, more=UNVERIFIED)
    outcomes = built(own, path)
    report = outcomes["cnn-int8"].report
    assert report is not None
    assert (report.proof, report.speedup, report.engine_latency) == ("emulated", None, None)
    assert any("Emulated on the CPU, not verified" in note for note in report.notes)
    assert "min_speedup" not in [gate.name for gate in report.gates]
    manifest, folder = current(own.registry, "cnn-int8")
    assert manifest.proof == "emulated"
    assert sorted(file.name for file in folder.iterdir()) == ["model_cc86.plan", "model_cc89.plan"]
    text = (registry / "engines" / "cnn-int8" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert dict(config.cc_model_filenames) == {"8.6": "model_cc86.plan", "8.9": "model_cc89.plan"}
    assert "emulated" in trtd("show", "cnn-int8", "--registry", registry).out
    with pytest.raises(EnvironmentMissing, match="no NVIDIA driver"):
        api.load(registry, "cnn-int8")
    again = trtd("verify", "cnn-int8", "--registry", registry, "--json")
    assert again.document["data"]["report"]["proof"] == "emulated"
    assert again.status == 4  # or `trtd verify NAME && deploy` would deploy what never ran
    assert trtd("bench", "cnn-int8", "--registry", registry).status != 0

    gpus_here("8.9")
    proved = trtd("verify", "cnn-int8", "--registry", registry, "--json").document["data"]["report"]
    assert proved["proof"] == "verified"
    assert proved["device_times"]["gpu"] == "Stand-in GPU 0 (8.9)"
    manifest = verify_files(own.registry, "cnn-int8", 1)
    assert manifest.proof == "verified"
    assert "min_speedup" in [gate.name for gate in manifest.gates]
    kept = json.loads((own.registry.record("cnn-int8", 1) / "report.json").read_text())
    assert kept["proof"] == "verified"
    assert "emulated" not in trtd("show", "cnn-int8", "--registry", registry).out
    with api.load(registry, "cnn-int8") as engine:
        assert engine.run({"x": np.zeros((1, 3, 8, 8), np.float32)})["scores"].shape == (1, 5)
    assert [o.built for o in own.build(path)] == [False, False]

    gpus_here("12.0")
    with pytest.raises(EngineError, match=r"for compute capability 8\.6 or 8\.9, and here is Stand-in GPU 0 \(12\.0\)"):
        api.load(registry, "cnn-int8")


def test_to_verify_leaves_nothing_that_a_later_build_takes(own: Workshop, gpus_here: Place, trtd: Trtd) -> None:
    """Version 2 would have the ranges of version 1's data, and a record that names those of its own."""
    gpus_here()
    held = own.folder / "held"
    held.mkdir()
    for number in range(8):
        write_image(held / f"{number}.png", 500 + number)
    path = spec(own, '"tensorrt-rtx"', '"int8"', engine=AHEAD, verify='data = "../held"', more=UNVERIFIED)
    built(own, path)
    for number, file in enumerate(sorted(own.images.iterdir())):
        write_image(file, 9000 + number)
    assert trtd("verify", "cnn", "--registry", own.registry.root).status == 4  # passed, and still not on its GPU
    recorder = Recorder()
    built(own, path, recorder)
    assert {"calibrate", "quantize"} <= set(recorder.ran)
    record = own.registry.record("cnn", 2)
    assert verify_files(own.registry, "cnn", 2).calibration_digest == read_table(record / "calibration.json").set_digest


def test_a_verification_that_fails_on_the_gpu_leaves_the_record_as_it_was(own: Workshop, gpus_here: Place) -> None:
    gpus_here()
    path = spec(own, '"tensorrt-rtx"', '"fp16"', engine=AHEAD, more=UNVERIFIED)
    path.write_text(path.read_text().replace("min_speedup = 0.001", "min_speedup = 1000.0"))
    built(own, path)
    gpus_here("8.9")
    from trtd.pipeline.published import verify_published

    report = verify_published(own.registry, "cnn", None, Request(own.registry, threads=1))
    assert not report.passed
    assert verify_files(own.registry, "cnn", 1).proof == "emulated"


def test_a_plan_that_was_changed_in_the_registry_is_refused_everywhere(
    own: Workshop, gpus_here: Place, trtd: Trtd
) -> None:
    """One flipped bit may deserialize. Nothing may run it."""
    gpus_here("8.9")
    built(own, spec(own, '"tensorrt"', '"fp32"'))
    _, folder = current(own.registry, "cnn")
    plan = folder / "model.plan"
    content = bytearray(plan.read_bytes())
    content[-30] ^= 4
    plan.chmod(0o644)
    plan.write_bytes(content)
    with pytest.raises(RegistryError):
        api.load(own.registry.root, "cnn")
    for command in (["verify", "cnn"], ["bench", "cnn"]):
        done = trtd(*command, "--registry", own.registry.root)
        assert done.status != 0
        assert "model.plan" in done.err


@pytest.mark.parametrize(
    ("capabilities", "fault", "said"),
    [([], "", "there is none here: no NVIDIA driver"), (["8.9"], "execute", "719"), (["8.9"], "no-memory", "memory")],
)
def test_a_gpu_that_is_not_there_or_fails_publishes_nothing(
    capabilities: list[str], fault: str, said: str, own: Workshop, gpus_here: Place
) -> None:
    gpus_here(*capabilities, fault=fault)
    (outcome,) = own.build(spec(own, '"tensorrt"', '"fp16"'))
    assert outcome.error is not None
    assert said in str(outcome.error)
    assert own.registry.names() == ()


class Impatient(Recorder):
    """Cancels the build as soon as it has to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.cancel = threading.Event()

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        super().stage_waiting(subject, stage, reason)
        self.cancel.set()


def test_what_needs_no_gpu_is_done_before_a_build_waits_for_one(own: Workshop, gpus_here: Place) -> None:
    """Conversion and calibration of an hour would keep a GPU from everybody; a wait that nobody can end is a hang."""
    gpus_here("8.9")
    path, impatient = spec(own, '"tensorrt"', '"int8"'), Impatient()
    with taken():
        (outcome,) = build(path, Request(own.registry, threads=1, listener=impatient, cancel=impatient.cancel))
    assert isinstance(outcome.error, StageError)
    assert "cancelled" in outcome.error.message
    done = [line for line in impatient.heard if line.endswith("finished")]
    assert done == [f"{stage} finished" for stage in ("convert", "calibrate", "reference", "quantize")]
    waits, failed = impatient.heard[-2:]
    assert waits.startswith(f"build waits, cannot use GPU-stand-in-0 to build cnn now: process {os.getpid()} ")
    assert failed == "build failed"
    assert waits.removeprefix("build ") in log_file(own.registry, "cnn").read_text()
    built(own, path)  # the stages before it came from the store, and nobody has the GPU any more


def test_what_is_built_ahead_of_time_waits_for_no_gpu(own: Workshop, gpus_here: Place) -> None:
    """A build server's GPU that somebody else has all day would hold up builds that never touch it."""
    gpus_here("9.0")
    with taken():
        built(own, spec(own, '"tensorrt-rtx"', '"fp16"', engine=AHEAD, more=UNVERIFIED))
