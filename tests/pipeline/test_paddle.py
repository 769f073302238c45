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
from tests.workshop import Recorder, Workshop
from trtd.engines.paddle.settings import PaddleSettings
from trtd.errors import EnvironmentMissing, RegistryError, SpecError
from trtd.pipeline.build import Outcome
from trtd.registry.lookup import current
from trtd.registry.manifest import verify_files

pytest.importorskip("paddle.inference")

Place = Callable[..., None]
Trtd = Callable[..., Any]

SHAPES = """\
[model.inputs.image]
min = [1, 3, 16, 16]
opt = [2, 3, 16, 16]
max = [4, 3, 16, 16]
[model.inputs.tokens]
min = [1, 6, 8]
opt = [2, 6, 8]
max = [4, 6, 8]
"""
LENIENT = "cosine = 0.5\nrelative_l2 = 0.9"


@pytest.fixture
def works(tmp_path: Path, quantized_programs: Path) -> Workshop:
    """``models/float`` and ``models/calibrated``, programs of two inputs, and two dozen items."""
    shop = Workshop(tmp_path / "works")
    for folder in ("models", "specs", "items"):
        (shop.folder / folder).mkdir(parents=True)
    for model in ("float", "calibrated"):
        shutil.copytree(quantized_programs / model, shop.folder / "models" / model)
        (shop.folder / "models" / model / "reference.npz").unlink(missing_ok=True)
    random = np.random.default_rng(3)
    for number in range(24):
        shapes = {"image": (3, 16, 16), "tokens": (6, 8)}
        arrays: dict[str, Any] = {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        np.savez(shop.folder / "items" / f"{number:02d}.npz", **arrays)
    shop.registry.init()
    return shop


def spec(
    shop: Workshop,
    target: str,
    precision: str,
    *,
    model: str = "float",
    options: str = "",
    engine: str = "",
    more: str = "",
) -> Path:
    paddle = f"[engine.paddle]\n{options}" if options else ""
    return shop.spec(
        "net",
        model=f'path = "../models/{model}"\n{SHAPES}',
        precision=f'{precision}\ntarget = "{target}"\n{paddle}',
        calibration='data = "../items"\nsamples = 16\nbatch = 2',
        gates=LENIENT,
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


def test_lower_precision_of_paddles_own_needs_a_gpu(works: Workshop) -> None:
    (outcome,) = works.build(spec(works, "paddle", '"bf16"'))
    assert isinstance(outcome.error, EnvironmentMissing)
    assert "paddlepaddle-gpu" in outcome.error.message
    assert works.registry.names() == ()


def test_native_fp16_on_a_gpu(works: Workshop, paddle_gpu: Place) -> None:
    """The precision is said to enable_use_gpu, and FP32 is timed on the same GPU beside it."""
    paddle_gpu()
    report = built(works, spec(works, "paddle", '"fp16"'))["net"].report
    assert report is not None
    assert report.speedup is not None
    settings = settings_of(current(works.registry, "net")[1])
    assert (settings.gpu, settings.precision, settings.tensorrt) == (True, "Half", None)


def test_a_paddle_that_converts_nothing_is_told_apart_from_one_that_does(works: Workshop, paddle_gpu: Place) -> None:
    """The CPU wheel writes files, converts nothing and raises nothing: this is the real one."""
    paddle_gpu()
    (outcome,) = works.build(spec(works, "paddle", '"fp16"', options="convert_to_mixed_precision = true"))
    assert "converted nothing to Half" in str(outcome.error)


def test_calibration_by_tensorrt(works: Workshop, paddle_gpu: Place, trtd: Trtd, tmp_path: Path) -> None:
    """The guide's way: one process feeds real inputs and ends; a second loads the tables and builds; a third judges."""
    paddle_gpu()
    recorder = Recorder()
    path = spec(works, "paddle-tensorrt", '["fp16", "int8"]', options="use_static = true")
    report = built(works, path, recorder)["net-int8"].report
    assert recorder.ran.count("paddle-calibrate") == 1
    assert report is not None
    (note,) = [note for note in report.notes if "TensorRT calibrated" in note]
    assert "on 16 items: 2 tables (TRT-8503-EntropyCalibration2), 8 ranges" in note
    assert any("reads no calibration tables" in note for note in report.notes)
    _, folder = current(works.registry, "net-int8")
    cached = sorted(file.name.rpartition("_")[0] for file in (folder / "_opt_cache").iterdir())
    assert cached == ["trt_calib", "trt_calib", "trt_serialized", "trt_serialized"]
    assert sum(name.startswith("_opt_cache/") for name in verify_files(works.registry, "net-int8", 1).files) == 4
    settings = settings_of(folder)
    assert settings.tensorrt is not None
    assert (settings.precision, settings.tensorrt.use_calib_mode) == ("Int8", True)
    assert (settings.tensorrt.max_batch_size, settings.tensorrt.min_subgraph_size) == (4, 5)
    assert settings.tensorrt_version == "8.5.3"
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
    assert len(np.load(folder / "out.npz").files) > 0
    table = next((moved / "engines" / "net-int8" / "2" / "_opt_cache").glob("trt_calib_*"))
    table.chmod(0o644)
    table.write_text(table.read_text().replace("3c", "3d"))
    with pytest.raises(RegistryError):
        api.load(moved, "net-int8")


def test_a_quantized_model_takes_its_own_scales(works: Workshop, paddle_gpu: Place) -> None:
    paddle_gpu()
    recorder = Recorder()
    built(works, spec(works, "paddle-tensorrt", '"int8"', model="calibrated"), recorder)
    assert "paddle-calibrate" not in recorder.ran
    settings = settings_of(current(works.registry, "net")[1])
    assert settings.tensorrt is not None
    assert settings.tensorrt.use_calib_mode is False
    config = (works.registry.engines / "net" / "config.pbtxt").read_text()
    assert 'key: "precision" value: "trt_int8"' in config


def test_a_predictor_that_never_returns_is_ended_at_its_deadline(works: Workshop, paddle_gpu: Place) -> None:
    paddle_gpu("hang")
    path = spec(works, "paddle-tensorrt", '"int8"', more="[build]\ndeadline_s = 8.0")
    (outcome,) = works.build(path)
    assert "deadline of 8 s" in str(outcome.error)


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


def test_params_of_another_model_are_refused(works: Workshop, paddle_gpu: Place) -> None:
    paddle_gpu()
    shutil.copyfile(
        works.folder / "models" / "calibrated" / "inference.pdiparams",
        works.folder / "models" / "float" / "inference.pdiparams",
    )
    with pytest.raises(Exception, match=r"params|parameters"):
        raise next(o.error for o in works.build(spec(works, "paddle-tensorrt", '"fp32"')) if o.error)


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
