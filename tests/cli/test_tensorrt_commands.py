"""What commands say of TensorRT, GPUs and calibration caches; GPUs are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workshop import Workshop

Place = Callable[..., None]
Trtd = Callable[..., Any]

SHAPES = 'path = "../models/tiny.onnx"\n[model.inputs.x]\nmin = [1, 3, 8, 8]\nopt = [2, 3, 8, 8]\nmax = [8, 3, 8, 8]\n'


def written(shop: Workshop, precision: str, engine: str, more: str = "") -> Path:
    return shop.spec("cnn", model=SHAPES, precision=f"{precision}\n{engine}", more=more)


def test_doctor_tells_gpus_targets_and_what_each_precision_is_there(gpus_here: Place, trtd: Trtd) -> None:
    """The first question of who buys or rents a GPU for a model."""
    gpus_here("8.6", "8.9")
    done = trtd("doctor")
    assert "GPU: Stand-in GPU 1, compute capability 8.9, 24 GiB" in done.out
    assert "driver 580.00.00, CUDA up to 13.0" in done.out
    assert "tensorrt         builds here and verifies" in done.out
    assert "8.6   fp32 fast, tf32 fast, fp16 fast, bf16 fast, int8 fast, int8 convolution fast, fp8 absent" in done.out
    data = trtd("doctor", "--json").document["data"]
    assert [gpu["capability"] for gpu in data["gpus"]["found"]] == ["8.6", "8.9"]
    assert data["hardware"]["tensorrt 10.13.0"]["8.9"]["fp8"] == "fast"


def test_doctor_without_a_gpu(gpus_here: Place, trtd: Trtd) -> None:
    """``nvidia-smi`` missing is the most frequent state of a machine, and no error."""
    gpus_here()
    done = trtd("doctor")
    assert done.status == 0
    assert "no NVIDIA driver is installed" in done.out
    data = trtd("doctor", "--json").document["data"]
    assert data["targets"]["tensorrt-rtx"]["ahead_of_time"] == "7.5, 8.0, 8.6, 8.9, 12.0, 12.1"
    assert "there is none here" in data["targets"]["tensorrt"]["build"]


@pytest.mark.parametrize(
    ("engine", "key", "said", "instead"),
    [
        (
            'target = "tensorrt-rtx"\ncompute_capabilities = ["9.0"]',
            "engine.compute_capabilities",
            "tensorrt_rtx 1.7.0 builds no engines for 9.0",
            "target tensorrt builds on such a GPU itself",
        ),
        (
            'target = "tensorrt-rtx"\ncompute_capabilities = ["8.6", "7.5"]',
            "engine.precision",
            "int8 does not exist on compute capability 7.5",
            "it has fp32, fp16",
        ),
    ],
)
def test_check_refuses_what_the_target_cannot_serve_and_says_what_would(
    engine: str, key: str, said: str, instead: str, own: Workshop, gpus_here: Place, trtd: Trtd
) -> None:
    """Before any work: a calibration of an hour for an engine that cannot exist is an hour lost."""
    gpus_here()
    done = trtd("check", written(own, '"int8"', engine), "--json")
    assert done.status == 2
    (fault,) = done.document["error"]["diagnostics"]
    assert fault["key"] == key
    assert said in fault["message"]
    assert instead in fault["hint"]


def test_check_refuses_a_gpu_that_this_release_runs_not_on(own: Workshop, gpus_here: Place, trtd: Trtd) -> None:
    """TensorRT-RTX 1.7 builds for an hour and then does not load on Hopper."""
    gpus_here("9.0")
    done = trtd("check", written(own, '"fp16"', 'target = "tensorrt-rtx"'), "--json")
    assert done.status == 2
    (fault,) = done.document["error"]["diagnostics"]
    assert fault["key"] == "engine.target"
    assert "tensorrt_rtx 1.7.0 runs on no GPU of compute capability 9.0" in fault["message"]


def test_check_tells_what_this_machine_lacks(own: Workshop, gpus_here: Place, trtd: Trtd) -> None:
    gpus_here()
    done = trtd("check", written(own, '"fp16"', 'target = "tensorrt"'))
    assert done.status == 0
    assert "cannot be built here: target tensorrt builds on a GPU" in done.out
    ahead = 'target = "tensorrt-rtx"\ncompute_capabilities = ["8.9"]'
    assert "it would not be built" in trtd("check", written(own, '"fp16"', ahead)).out
    unverified = written(own, '"fp16"', ahead, more="[publish]\nunverified = true")
    assert "it would be published unverified" in trtd("check", unverified).out


def test_layers_are_those_of_an_engine_that_ran(shop: Workshop, trtd: Trtd) -> None:
    """An ONNX file has no layers of TensorRT's to show."""
    done = trtd("show", "tiny-int8", "--layers", "--registry", shop.registry.root)
    assert done.status == 3
    assert "is no TensorRT engine" in done.err
    assert trtd("show", "--layers", "--registry", shop.registry.root).status == 2


def test_a_table_goes_to_a_cache_and_back_and_builds_the_same_engine(
    shop: Workshop, trtd: Trtd, tmp_path: Path
) -> None:
    """The way of somebody with an old cache to TensorRT 11, where calibrators are gone."""
    registry, spec = shop.registry.root, shop.folder / "specs" / "tiny.toml"
    cache, table = tmp_path / "tiny.cache", shop.folder / "specs" / "tiny.calibration.json"
    assert "4 tensors" in trtd("table", "show", "tiny-int8", "--registry", registry).out
    printed = trtd("table", "export", "tiny-int8", "--registry", registry)
    assert printed.out.startswith("TRT-8601-EntropyCalibration2\n")
    wrote = trtd("table", "export", "tiny-int8@1", "--tensorrt", "10.3.0", "--out", cache, "--registry", registry)
    assert "by entropy to" in wrote.out
    assert cache.read_text().startswith("TRT-100300-EntropyCalibration2\n")
    done = trtd("table", "import", cache, spec, "--registry", registry, "--out", table)
    assert done.status == 0
    assert 'table = "' in done.out
    again = trtd("table", "export", table, "--tensorrt", "10.3.0", "--json").document["data"]["text"]
    assert again == cache.read_text()
    text = (
        spec.read_text().replace('name = "tiny"', "").replace('data = "../images"', 'table = "tiny.calibration.json"')
    )
    moved = spec.with_name("moved.toml")
    moved.write_text(text.replace("latency_runs = 5", 'data = "../images"\nlatency_runs = 5'))
    built = trtd("build", moved, "--registry", registry)
    assert built.status == 0, built.err


def test_a_cache_of_another_network_is_refused_by_name(shop: Workshop, trtd: Trtd, tmp_path: Path) -> None:
    cache = tmp_path / "other.cache"
    cache.write_text("TRT-8601-EntropyCalibration2\nother: 3c010a14\n")
    spec = shop.folder / "specs" / "tiny.toml"
    out = tmp_path / "table.json"
    done = trtd("table", "import", cache, spec, "--registry", shop.registry.root, "--out", out, "--json")
    assert done.status != 0
    assert "has 'other', which this network has not" in json.dumps(done.document["error"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table", "import", "x.cache"], "wants the spec of the model"),
        (["table", "show", "tiny-int8", "spec.toml"], "takes no spec"),
        (["table", "show", "absent"], "absent"),
        (["table", "export", "tiny-int8", "--tensorrt", "11.4.0"], "reads no calibration caches"),
    ],
)
def test_wrong_table_commands(arguments: list[str], said: str, shop: Workshop, trtd: Trtd) -> None:
    done = trtd(*arguments, "--registry", shop.registry.root)
    assert done.status != 0
    assert said in done.err
