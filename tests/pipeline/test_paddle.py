"""Paddle targets through the whole pipeline: native on the real CPU, with TensorRT on a stand-in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import trtd as api
from tests.quantized.models import LENIENT, SHAPES
from tests.workshop import Recorder, Workshop, taken
from trtd.engines.paddle.settings import PaddleSettings
from trtd.errors import (
    ConversionError,
    EnvironmentMissing,
    ModelError,
    RegistryBusy,
    RegistryError,
    SpecError,
    WorkerTimeout,
)
from trtd.pipeline.build import Outcome
from trtd.pipeline.contracts import PaddleTables
from trtd.pipeline.progress import ProgressEvent
from trtd.registry.lookup import current
from trtd.registry.manifest import verify_files

pytest.importorskip("paddle.inference")

Place = Callable[..., None]
Trtd = Callable[..., Any]


def spec(
    shop: Workshop,
    target: str,
    precision: str,
    *,
    model: str = "float",
    options: str = "",
    engine: str = "",
    gates: str = LENIENT,
    verify: str = "",
    more: str = "",
) -> Path:
    paddle = f"[engine.paddle]\n{options}" if options else ""
    return shop.spec(
        "net",
        model=f'path = "../models/{model}"\n{SHAPES}',
        precision=f'{precision}\ntarget = "{target}"\n{engine}\n{paddle}',
        calibration='data = "../items"\nsamples = 16\nbatch = 2',
        verify=verify,
        gates=gates,
        more=more,
    )


def built(shop: Workshop, path: Path, recorder: Recorder | None = None) -> dict[str, Outcome]:
    outcomes = shop.build(path, recorder)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    return {outcome.name: outcome for outcome in outcomes}


def feeds(batch: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"image": (batch, 3, 16, 16), "tokens": (batch, 6, 8)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def settings_of(folder: Path) -> PaddleSettings:
    return PaddleSettings.model_validate_json((folder / "engine.json").read_bytes())


def test_paddle_itself_on_the_cpu(works: Workshop, trtd: Trtd, tmp_path: Path) -> None:
    """The reference of the guide: published with its settings and a script that needs no trtd."""
    built(works, spec(works, "paddle", '"fp32"'))
    _, folder = current(works.registry, "net")
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["engine.json", "model.pdiparams", "model.pdmodel", "run.py"]
    assert settings_of(folder).gpu is False
    np.savez(tmp_path / "in.npz", **feeds(3))
    command = [sys.executable, str(folder / "run.py"), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = np.load(tmp_path / "out.npz")
    again = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            str(works.registry.root),
            str(tmp_path / "in.npz"),
            str(tmp_path / "ours.npz"),
            "net",
        ],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    ours = np.load(tmp_path / "ours.npz")
    assert set(script) == set(ours)
    for name in script:
        np.testing.assert_array_equal(script[name], ours[name])
    assert trtd("verify", "net", "--registry", works.registry.root).status == 0


# Paddle stays out of the test process: its libraries live for as long as a process does.
RUN = """\
import sys
import numpy as np
import trtd
with trtd.load(sys.argv[1], sys.argv[4]) as engine:
    np.savez(sys.argv[3], **engine.run(dict(np.load(sys.argv[2]))))
"""


@pytest.mark.parametrize(("target", "precision"), [("paddle", "bf16"), ("paddle", "fp16"), ("paddle-tensorrt", "fp32")])
def test_what_needs_a_gpu_is_told_by_check_and_refused_by_build(
    target: str, precision: str, works: Workshop, trtd: Trtd
) -> None:
    """A spec is sound wherever it is checked; what cannot be built here must not wait for the build to be told."""
    path = spec(works, target, f'"{precision}"')
    needs = f"target {target}{f' in {precision}' if target == 'paddle' else ''} needs paddlepaddle-gpu"
    checked = trtd("check", path)
    assert checked.status == 0
    assert f"cannot be built here: {needs}; pip install paddlepaddle-gpu in the place of paddlepaddle" in checked.out
    (outcome,) = works.build(path)
    assert isinstance(outcome.error, EnvironmentMissing)
    assert needs in outcome.error.message
    assert works.registry.names() == ()


def test_native_fp16_on_a_gpu(works: Workshop, paddle_gpu: Place) -> None:
    """The precision is said to enable_use_gpu, and FP32 is timed on the same GPU beside it."""
    paddle_gpu()
    report = built(works, spec(works, "paddle", '"fp16"'))["net"].report
    assert report is not None
    assert report.speedup is not None
    assert "Paddle calls its own Half kernels experimental." in report.notes
    settings = settings_of(current(works.registry, "net")[1])
    assert (settings.gpu, settings.precision, settings.tensorrt) == (True, "Half", None)


def test_a_paddle_that_converts_nothing_is_told_apart_from_one_that_does(works: Workshop, paddle_gpu: Place) -> None:
    """The CPU wheel writes files, converts nothing and raises nothing: this is the real one."""
    paddle_gpu()
    (outcome,) = works.build(spec(works, "paddle", '"fp16"', options="convert_to_mixed_precision = true"))
    assert "converted nothing to Half" in str(outcome.error)


class Prying(Recorder):
    """Tries to take the GPU whenever a stage tells of progress, and remembers what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.alone: dict[str, bool] = {}

    def progress(self, subject: str, event: ProgressEvent) -> None:
        try:
            with taken():
                alone = False
        except RegistryBusy:
            alone = True
        self.alone[event.stage] = self.alone.get(event.stage, True) and alone


OPTIONS = """\
use_static = true
collect_shape_range_info = true
use_cuda_graph = true
exp_disable_tensorrt_ops = ["pool2d"]
exp_disable_tensorrt_subgraph = ["relu_0.tmp_0"]
"""


def test_calibration_by_tensorrt(works: Workshop, paddle_gpu: Place, trtd: Trtd, tmp_path: Path) -> None:
    """The guide's way: one process feeds real inputs and ends; a second loads the tables and builds; a third judges.

    Each has the GPU to itself: another's load would be in its measurements, and its memory might not suffice.
    """
    paddle_gpu()
    recorder = Prying()
    path = spec(works, "paddle-tensorrt", '["fp16", "int8"]', options=OPTIONS)
    report = built(works, path, recorder)["net-int8"].report
    assert recorder.ran.count("paddle-calibrate") == 1
    on_gpu = {"paddle-prepare", "paddle-calibrate", "paddle-build", "verify"}
    assert recorder.alone == {"reference": False, **dict.fromkeys(on_gpu, True)}
    assert report is not None
    (note,) = [note for note in report.notes if "TensorRT calibrated" in note]
    assert "on 16 items: 2 tables (TRT-8503-EntropyCalibration2), 8 ranges" in note
    assert any("reads no calibration tables" in note for note in report.notes)
    _, folder = current(works.registry, "net-int8")
    cached = sorted(file.name.rpartition("_")[0] for file in (folder / "_opt_cache").iterdir())
    assert cached == ["trt_calib", "trt_calib", "trt_serialized", "trt_serialized"]
    manifest = verify_files(works.registry, "net-int8", 1)
    assert sum(name.startswith("_opt_cache/") for name in manifest.files) == 4
    record = works.registry.record("net-int8", 1) / "tables.json"
    tables = PaddleTables.model_validate_json(record.read_bytes())
    assert (tables.model_digest, tables.set_digest) == (manifest.model_digest, manifest.calibration_digest)
    assert {f"sha256:{manifest.files[f'_opt_cache/{table.file}'].sha256}" for table in tables.tables} == {
        table.digest for table in tables.tables
    }
    assert (tables.settings.paddle, tables.settings.tensorrt_version) == (settings_of(folder).paddle, "8.5.3")
    settings = settings_of(folder)
    assert settings.tensorrt is not None
    assert (settings.precision, settings.tensorrt.use_calib_mode) == ("Int8", True)
    assert (settings.tensorrt.max_batch_size, settings.tensorrt.min_subgraph_size) == (4, 5)
    assert settings.tensorrt_version == "8.5.3"
    collected = (folder / settings.tensorrt.shape_range_file).read_text()
    image = next(part for part in collected.split("shape_range_info") if '"image"' in part)
    batches = {kind: image.partition(f"{kind}_shape: ")[2].split()[0] for kind in ("min", "max", "opt")}
    assert batches == {"min": "1", "max": "4", "opt": "2"}  # of the spec, and of the data
    said = (folder / "run.py").read_text()
    for words in (
        "use_cuda_graph=True",
        "exp_disable_tensorrt_ops(['pool2d'])",
        "exp_disable_tensorrt_subgraph(['relu_0.tmp_0'])",
        "enable_tuned_tensorrt_dynamic_shape(shape_range_info_path=str(here / 'shape_range_info.pbtxt')",
    ):
        assert words in said
    text = (works.registry.engines / "net-int8" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(accelerator.parameters)["precision"] == "trt_fp16"
    assert config.backend == "paddle"
    before = {file.name: file.read_bytes() for file in (folder / "_opt_cache").iterdir()}
    assert trtd("verify", "net-int8", "--registry", works.registry.root).status == 0
    assert {file.name: file.read_bytes() for file in (folder / "_opt_cache").iterdir()} == before
    assert [o.built for o in works.build(path)] == [False, False]
    fewer = Recorder()
    path.write_text(path.read_text().replace("cosine = 0.5", "cosine = 0.6"))
    built(works, path, fewer)
    assert set(fewer.ran) == {"verify"}
    _check_moved(works, tmp_path)


def _check_moved(works: Workshop, folder: Path) -> None:
    """A registry is copied to the machines that serve it: its engines load there, and changed ones do not."""
    moved = folder / "elsewhere"
    shutil.copytree(works.registry.root, moved)
    shutil.rmtree(works.folder)
    np.savez(folder / "in.npz", **feeds(2))
    arguments = [str(moved), str(folder / "in.npz"), str(folder / "out.npz"), "net-int8"]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Load TRT Optimized Info" in done.stderr
    ours, engine = np.load(folder / "out.npz"), moved / "engines" / "net-int8" / "2"
    scripted = subprocess.run(
        [sys.executable, str(engine / "run.py"), str(folder / "in.npz"), str(folder / "script.npz")],
        capture_output=True,
        text=True,
    )
    assert scripted.returncode == 0, scripted.stderr
    assert "Load TRT Optimized Info" in scripted.stderr
    script = np.load(folder / "script.npz")
    assert set(script) == set(ours) != set()
    for name in ours:
        np.testing.assert_array_equal(script[name], ours[name])
    table = next((engine / "_opt_cache").glob("trt_calib_*"))
    table.chmod(0o644)
    table.write_text(table.read_text().replace("3c", "3d"))
    with pytest.raises(RegistryError):
        api.load(moved, "net-int8")


def test_a_quantized_model_takes_its_own_scales_and_nothing_is_written_beside_it(
    works: Workshop, paddle_gpu: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With INT8 Paddle makes a folder beside the model: read-only sources and registries would be of no use."""
    paddle_gpu()
    recorder, model = Recorder(), works.folder / "models" / "calibrated"
    model.chmod(0o555)
    built(works, spec(works, "paddle-tensorrt", '"int8"', model="calibrated"), recorder)
    engine = works.registry.engine("net", 1)
    names = sorted(file.name for file in engine.iterdir())
    engine.chmod(0o555)
    np.savez(tmp_path / "in.npz", **feeds(2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = [str(works.registry.root), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), "net"]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in engine.iterdir()) == names
    assert "_opt_cache" not in names
    assert sorted(file.name for file in model.iterdir()) == ["inference.pdiparams", "inference.pdmodel"]
    assert "paddle-calibrate" not in recorder.ran
    settings = settings_of(current(works.registry, "net")[1])
    assert settings.tensorrt is not None
    assert settings.tensorrt.use_calib_mode is False
    config = (works.registry.engines / "net" / "config.pbtxt").read_text()
    assert 'key: "precision" value: "trt_int8"' in config


FALLBACK = 'quantized_model = "../models/calibrated"'


def test_the_quantized_model_is_taken_where_tensorrt_s_calibration_misses_a_gate(
    works: Workshop, paddle_gpu: Place
) -> None:
    """The guide: calibrate first, take PaddleSlim where that does not suffice; who reads the report must know."""
    paddle_gpu("coarse")
    gates = "cosine = 0.5\nrelative_l2 = 0.2"
    recorder = Recorder()
    path = spec(works, "paddle-tensorrt", '"int8"', engine=FALLBACK, gates=gates)
    report = built(works, path, recorder)["net"].report
    assert report is not None
    assert [recorder.ran.count(stage) for stage in ("paddle-calibrate", "verify")] == [1, 2]
    assert any(note.startswith("Calibration alone missed ") for note in report.notes)
    assert any(note.endswith("calibrated/inference.pdmodel, the spec's quantized_model.") for note in report.notes)
    settings = settings_of(current(works.registry, "net")[1])
    assert settings.tensorrt is not None
    assert settings.tensorrt.use_calib_mode is False


def test_paddle_makes_the_quantized_model_where_it_is_asked_to(works: Workshop, paddle_gpu: Place) -> None:
    """Without a word, TensorRT would calibrate instead. Builds of TensorRT differ, so this one is repeated."""
    paddle_gpu()
    recorder = Recorder()
    ptq = '[quantization]\nproducer = "paddle-ptq"\n[quantization.ptq]\nalgorithm = "abs_max"'
    path = spec(works, "paddle-tensorrt", '"int8"', verify="repeats = 2", more=ptq)
    report = built(works, path, recorder)["net"].report
    assert report is not None
    assert recorder.ran.count("produce") == 1
    assert "paddle-calibrate" not in recorder.ran
    assert "Scales are those that Paddle's post-training quantization found." in report.notes
    assert len(report.repeats) == 1
    settings = settings_of(current(works.registry, "net")[1])
    assert settings.tensorrt is not None
    assert (settings.precision, settings.tensorrt.use_calib_mode) == ("Int8", False)


def test_a_predictor_that_never_returns_is_ended_at_its_deadline(works: Workshop, paddle_gpu: Place) -> None:
    """It waits for batches that its builder never takes: nobody would ever hear of it."""
    paddle_gpu("hang")
    path = spec(works, "paddle-tensorrt", '"int8"', more="[build]\ndeadline_s = 8.0")
    (outcome,) = works.build(path)
    assert isinstance(outcome.error, WorkerTimeout)
    assert outcome.error.where == "paddle-calibrate"
    assert "deadline of 8 s" in outcome.error.message
    assert works.registry.names() == ()


@pytest.mark.parametrize(
    ("model", "options", "key", "said"),
    [
        (
            "float",
            "use_calib_mode = false",
            "engine.paddle.use_calib_mode",
            "Paddle would run it in FP32 and not say so",
        ),
        ("calibrated", "use_calib_mode = true", "engine.paddle.use_calib_mode", "Paddle would calibrate it anew"),
    ],
)
def test_what_paddle_would_ignore_is_a_fault_of_the_spec(
    model: str, options: str, key: str, said: str, works: Workshop, paddle_gpu: Place
) -> None:
    paddle_gpu()
    with pytest.raises(SpecError) as told:
        works.build(spec(works, "paddle-tensorrt", '"int8"', model=model, options=options))
    (fault,) = told.value.diagnostics
    assert fault.key == key
    assert said in fault.message


@pytest.mark.parametrize(
    ("target", "precision", "capability", "others"),
    [
        ("paddle", "bf16", "7.5", "it has fp32, fp16"),
        ("paddle-tensorrt", "int8", "6.0", "it has fp32, fp16"),
        ("paddle-tensorrt", "fp16", "6.1", "it has fp32, int8"),
    ],
)
def test_a_precision_that_the_gpu_has_not_is_a_fault_of_the_spec(
    target: str, precision: str, capability: str, others: str, works: Workshop, paddle_gpu: Place
) -> None:
    """The guide says to look first; TensorRT would take another precision, and Paddle end in the middle."""
    paddle_gpu(capability=capability)
    with pytest.raises(SpecError, match=f"{precision} does not exist on compute capability {capability}") as told:
        works.build(spec(works, target, f'"{precision}"'))
    assert others in told.value.diagnostics[0].hint


def test_a_calibration_batch_that_the_engine_does_not_take_is_a_fault_of_the_spec(
    works: Workshop, paddle_gpu: Place
) -> None:
    """TensorRT would refuse it in the middle of a calibration."""
    paddle_gpu()
    path = spec(works, "paddle-tensorrt", '"int8"')
    path.write_text(path.read_text().replace("batch = 2", "batch = 8"))
    with pytest.raises(SpecError, match="is 8, and the engine takes batches of 1 to 4"):
        works.build(path)


@pytest.mark.parametrize("option", ["use_static", "collect_shape_range_info", "convert_to_mixed_precision"])
def test_an_option_that_a_pir_program_does_not_know_is_a_fault_of_the_spec(
    option: str, own: Workshop, paddle_gpu: Place
) -> None:
    """Nothing reads it, so nothing would come of it."""
    paddle_gpu()
    shutil.copytree(PIR, own.folder / "digits")
    target = "paddle" if option.startswith("convert") else "paddle-tensorrt"
    path = own.spec(
        model='path = "../digits/model"',
        precision=f'"fp16"\ntarget = "{target}"\n[engine.paddle]\n{option} = true',
        calibration='data = "../digits/calibration.npy"',
    )
    with pytest.raises(SpecError, match=f"engine.paddle.{option}: is for .pdmodel programs"):
        own.build(path)


@pytest.mark.parametrize("target", ["paddle", "paddle-tensorrt"])
def test_params_of_another_model_are_refused(target: str, works: Workshop, paddle_gpu: Place) -> None:
    """Where shapes happen to agree, Paddle would compute with them."""
    paddle_gpu()
    models = works.folder / "models"
    shutil.copyfile(models / "calibrated" / "inference.pdiparams", models / "float" / "inference.pdiparams")
    with pytest.raises(ModelError, match="in the program, but int32") as told:
        works.build(spec(works, target, '"fp32"'))
    assert "different exports" in told.value.hint


def test_the_older_form_is_refused_with_the_option_that_helps(works: Workshop, paddle_gpu: Place) -> None:
    """fake_quantize operators: some of Paddle's passes read them and others do not, and none says so."""
    paddle_gpu()
    with pytest.raises(ConversionError, match="Paddle's older form") as told:
        works.build(spec(works, "paddle-tensorrt", '"int8"', model="fake"))
    assert "onnx_format=True" in told.value.hint


PIR = Path(__file__).parents[2] / "specs" / "digits"


def test_pir_programs_go_through_paddle_tensorrt_convert(tmp_path: Path, paddle_gpu: Place) -> None:
    """The engine for subgraphs does nothing with them, and does not say so."""
    paddle_gpu()
    shop = Workshop(tmp_path / "pir")
    (shop.folder / "specs").mkdir(parents=True)
    shop.registry.init()
    shutil.copytree(PIR, shop.folder / "digits")
    shapes = "".join(f"{key} = [{batch}, 1, 8, 8]\n" for key, batch in (("min", 1), ("opt", 4), ("max", 8)))
    path = shop.spec(
        "net",
        model=f'path = "../digits/model"\n[model.inputs.image]\n{shapes}',
        precision='"fp16"\ntarget = "paddle-tensorrt"',
        calibration='data = "../digits/calibration.npy"\nsamples = 16',
    )
    (outcome,) = shop.build(path)
    assert outcome.error is None, outcome.error
    _, folder = current(shop.registry, "net")
    assert (folder / "model" / "engine_1_0.trt").is_file()
    assert "enable_tensorrt_engine" not in (folder / "run.py").read_text()
    assert outcome.report is not None
    assert any("reads .pdmodel programs alone" in note for note in outcome.report.notes)
    path.write_text(path.read_text().replace('"fp16"', '"int8"'))
    with pytest.raises(SpecError, match="has no calibration"):
        shop.build(path)


def test_what_tensorrt_calibrates_trtd_does_not(works: Workshop, trtd: Trtd) -> None:
    """The model would be converted for nothing, and the error would speak of a placement that nobody asked for."""
    done = trtd("calibrate", spec(works, "paddle-tensorrt", '"int8"'), "--registry", works.registry.root)
    assert done.status == 2
    assert "inside of Paddle, TensorRT calibrates while an engine is built" in done.err
    assert "hint: trtd build " in done.err
