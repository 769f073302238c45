"""What the real Config of the GPU wheel says after it was told our settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.paddle_gpu.cases import NATIVE, ON_CPU, RANGE, TENSORRT, tensorrt
from tests.paddle_gpu.conftest import HERE, Child
from tests.paddle_gpu.wheel import need_the_wheel
from trtd.engines.paddle.building import built_here
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.installed import installed_paddle

need_the_wheel()

SHAPED = ("ranges", "tuned")


@pytest.mark.parametrize("case", NATIVE)
def test_paddles_own_kernels_get_the_precision(case: str, inference: Any, folder: Path) -> None:
    """Said elsewhere, FP16 would be FP32 with half the speed."""
    config = make_config(inference, NATIVE[case], folder)
    assert config.use_gpu()
    assert config.gpu_device_id() == 0
    assert config.memory_pool_init_size_mb() == 321
    assert not config.tensorrt_engine_enabled()
    said = rows(config.summary())
    assert (said["enable_gpu_mixed"], said["mixed_precision_mode"]) == ("01"[case != "fp32"], case)
    assert (said["use_tensorrt"], said["memory_optim"]) == ("false", "true")


def test_on_the_cpu_nothing_of_a_gpu_is_said(inference: Any, folder: Path) -> None:
    """The reference judges on machines that have a GPU, too."""
    config = make_config(inference, ON_CPU, folder)
    assert not config.use_gpu()
    assert rows(config.summary())["enable_mkldnn"] == "false"


@pytest.mark.parametrize("case", TENSORRT)
def test_tensorrt_is_on_and_has_the_precision(case: str, inference: Any, folder: Path) -> None:
    """And Paddle's own kernels, which compute what TensorRT does not take, stay in FP32."""
    config = make_config(inference, TENSORRT[case], folder)
    assert config.use_gpu()
    assert config.tensorrt_engine_enabled()
    assert config.tensorrt_precision_mode() == getattr(inference.PrecisionType, TENSORRT[case].precision)
    assert config.tensorrt_dynamic_shape_enabled() == (case == "ranges")
    assert config.tuned_tensorrt_dynamic_shape() == (case == "tuned")
    assert not config.trt_allow_build_at_runtime()
    assert not config.shape_range_info_collected()
    path = folder / "shape_range_info.pbtxt" if case == "tuned" else ""
    assert config.shape_range_info_path() == str(path)


def test_the_other_order_is_ignored_by_paddle(inference: Any, folder: Path) -> None:
    """This is the trap that the order of our calls avoids. If Paddle mended it, the order would be free."""
    config = inference.Config(str(folder / "model.pdmodel"), str(folder / "model.pdiparams"))
    config.enable_tensorrt_engine(precision_mode=inference.PrecisionType.Half)
    assert not config.tensorrt_engine_enabled()
    config.enable_use_gpu(memory_pool_init_size_mb=256, device_id=0)
    assert config.use_gpu()
    assert not config.tensorrt_engine_enabled()


def test_the_wheel_tells_which_tensorrt_it_was_built_with(inference: Any) -> None:
    """It stands in engine.json, and trtd doctor says it: tables and engines of another TensorRT are of no use."""
    built = [built_here(inference, case["fp16"]) for case in (TENSORRT, NATIVE)]
    assert [(one.paddle, one.tensorrt_version) for one in built] == [("2.6.2", "8.5.3"), ("2.6.2", "")]
    here = installed_paddle(inference)
    assert here.words.startswith("2.6.2, built with GPUs and TensorRT 8.5.3; finds ")
    if not here.tensorrt_found:
        assert here.tensorrt_missing.startswith("(NotFound) TensorRT is needed")


@pytest.fixture(scope="module")
def summaries(child: Child, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Paddle's summary of each case. With TensorRT on it asks libnvinfer for its version, which a stand-in tells."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for the stand-in of libnvinfer")
    stand_in = tmp_path_factory.mktemp("stand-in")
    made = child(HERE / "summaries.py", stand_in, folder, env={"LD_LIBRARY_PATH": str(stand_in)})
    assert made.returncode == 0, made.stderr
    return {case: rows(text) for case, text in json.loads(made.stdout).items()}


@pytest.mark.parametrize("case", TENSORRT)
def test_paddle_repeats_every_option(case: str, summaries: dict[str, dict[str, str]], folder: Path) -> None:
    """An option under a wrong name, or in a wrong unit, would leave the default in force."""
    said, trt = summaries[case], TENSORRT[case].tensorrt
    assert trt is not None
    assert said["trt_compile_version"] == "8.5.3"
    assert said["use_tensorrt"] == "true"
    precision = {"Float32": "fp32", "Half": "fp16", "Int8": "int8"}[TENSORRT[case].precision]
    assert said["tensorrt_precision_mode"] == precision
    assert (said["mixed_precision_mode"], said["memory_pool_init_size"]) == ("fp32", "321MB")
    assert said["tensorrt_workspace_size"] == str(trt.workspace_size) == "8589934593"
    assert said["tensorrt_max_batch_size"] == "7"
    assert said["tensorrt_min_subgraph_size"] == "4"
    assert said["tensorrt_use_static_engine"] == str(case == "static").lower()
    assert said["tensorrt_use_calib_mode"] == str(case == "int8-calibrated").lower()
    assert said["tensorrt_use_cuda_graph"] == str(case == "cuda-graph").lower()
    assert said["tensorrt_enable_dynamic_shape"] == str(case == "ranges").lower()
    tuned = str(folder / "shape_range_info.pbtxt")
    assert said["tensorrt_tuned_dynamic_shape"] == (tuned if case == "tuned" else "false")
    assert said["collect_shape_range_info"] == "false"


def test_ranges_of_other_names_are_taken_without_a_word(inference: Any, folder: Path) -> None:
    """Paddle 2.6.2 checks no names: that they are the model's inputs is ours to know, from its facts."""
    config = make_config(inference, tensorrt("Half", shapes={"nobody": RANGE}), folder)
    assert config.tensorrt_dynamic_shape_enabled()


def rows(summary: str) -> dict[str, str]:
    """The table as a dictionary."""
    cells = [line.strip("|").split("|") for line in summary.splitlines() if line.startswith("|")]
    return {name.strip(): value.strip() for name, value in cells}
