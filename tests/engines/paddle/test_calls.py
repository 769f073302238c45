"""What is said to Paddle's Config, in which order, and that the script says the same."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.nvinfer import tensorrt_library
from trtd.engines.paddle.pir import convert_pir
from trtd.engines.paddle.script import render_script
from trtd.engines.paddle.settings import PaddleSettings, Precision, ShapeRange, TensorRTSettings, calls
from trtd.errors import EngineError, EnvironmentMissing
from trtd.registry.triton_paddle import accelerators, limits

RANGE = ShapeRange(min=(1, 3, 32, 32), max=(4, 3, 64, 64), optim=(2, 3, 32, 32))


def tensorrt(**changes: Any) -> TensorRTSettings:
    facts: dict[str, Any] = {
        "workspace_size": 1 << 30,
        "max_batch_size": 4,
        "min_subgraph_size": 5,
        "use_static": False,
        "use_calib_mode": False,
        "use_cuda_graph": False,
    }
    return TensorRTSettings(**{**facts, **changes})


def settings(**changes: Any) -> PaddleSettings:
    facts: dict[str, Any] = {
        "model_file": "model.pdmodel",
        "params_file": "model.pdiparams",
        "precision": "Half",
        "gpu": True,
        "inputs": (),
        "tensorrt": tensorrt(),
    }
    return PaddleSettings(**{**facts, **changes})


CASES = {
    "cpu": settings(gpu=False, precision="Float32", tensorrt=None),
    "native": settings(tensorrt=None),
    "tensorrt": settings(),
    "ranges": settings(tensorrt=tensorrt(shapes={"x": RANGE})),
    "tuned": settings(tensorrt=tensorrt(shape_range_file="shape_range_info.pbtxt", shapes={})),
    "disabled": settings(tensorrt=tensorrt(disable_ops=("pool2d",), disable_subgraph=("conv2d_0.tmp_0",))),
    "pir": settings(model_file="model.json", converted=True),
}


def methods(case: str) -> list[str]:
    return [call.method for call in calls(CASES[case])]


def test_the_gpu_is_enabled_before_tensorrt() -> None:
    """The other way round Paddle ignores TensorRT, with a line in its log."""
    found = methods("tensorrt")
    assert found.index("enable_use_gpu") < found.index("enable_tensorrt_engine")


def test_each_case_says_what_it_needs_and_no_more() -> None:
    assert methods("cpu") == ["disable_gpu", "disable_mkldnn"]
    assert methods("native") == ["enable_use_gpu", "enable_memory_optim"]
    assert methods("ranges")[-1] == "set_trt_dynamic_shape_info"
    assert methods("tuned")[-1] == "enable_tuned_tensorrt_dynamic_shape"
    assert methods("disabled")[-2:] == ["exp_disable_tensorrt_ops", "exp_disable_tensorrt_subgraph"]
    assert methods("pir") == ["enable_use_gpu"]


def test_the_precision_is_said_to_whoever_computes() -> None:
    """INT8 as the precision of Paddle's own kernels is refused by Paddle."""
    native = {call.method: call for call in calls(settings(tensorrt=None))}
    with_tensorrt = {call.method: call for call in calls(settings(precision="Int8"))}
    assert native["enable_use_gpu"].arguments["precision_mode"] == Precision("Half")
    assert with_tensorrt["enable_use_gpu"].arguments["precision_mode"] == Precision("Float32")
    assert with_tensorrt["enable_tensorrt_engine"].arguments["precision_mode"] == Precision("Int8")


@pytest.mark.parametrize("case", CASES)
def test_the_script_makes_the_same_calls(case: str) -> None:
    """It is the engine for who uses Paddle alone: another option there would be another engine."""
    text = render_script(CASES[case], "run.py")
    ast.parse(text)
    here = {"set_optim_cache_dir", "set_cpu_math_library_num_threads"}  # depend on the machine, not on the engine
    said = [m for m in re.findall(r"^config\.(\w+)\(", text, re.MULTILINE) if m not in here]
    assert said == methods(case)
    assert text.count("\n") < 35


class StandInConfig:
    """Remembers what it was told; stands in for ``paddle.inference.Config`` where no Paddle has TensorRT."""

    def __init__(self, *files: str) -> None:
        self.said: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name == "exp_disable_tensorrt_subgraph":
            raise AttributeError(name)

        def tell(*args: Any, **kwargs: Any) -> bool:
            self.said.append((name, args, kwargs))
            return True

        return tell


class StandInModule:
    Config = StandInConfig

    class PrecisionType:
        Float32, Half, Bfloat16, Int8 = "f32", "f16", "bf16", "i8"


def test_values_that_depend_on_the_folder_or_on_paddle_are_filled_in(tmp_path: Path) -> None:
    config = make_config(StandInModule, CASES["tuned"], tmp_path, cache=tmp_path / "cache")
    said = {name: (args, kwargs) for name, args, kwargs in config.said}
    assert said["enable_tensorrt_engine"][1]["precision_mode"] == "f16"
    path = said["enable_tuned_tensorrt_dynamic_shape"][1]["shape_range_info_path"]
    assert path == str(tmp_path / "shape_range_info.pbtxt")
    assert said["set_optim_cache_dir"][0] == (str(tmp_path / "cache"),)


def test_a_setting_that_this_paddle_lacks_is_named_with_the_version_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no exp_disable_tensorrt_subgraph, which came with 3\.0"):
        make_config(StandInModule, CASES["disabled"], tmp_path)


class OldConverter:
    """Stands in for ``paddle.tensorrt`` of 3.0, whose ``TensorRTConfig`` has no ``use_cuda_graph``."""

    Input: Any = staticmethod(dict)

    class PrecisionMode:
        FP16 = "fp16"

    @staticmethod
    def TensorRTConfig(  # noqa: N802 - Paddle's name
        inputs: list[Any],
        min_subgraph_size: int = 3,
        save_model_dir: str = "",
        disable_ops: Any = None,
        precision_mode: Any = None,
        workspace_size: int = 0,
    ) -> dict[str, Any]:
        return {"out": save_model_dir, "min": min_subgraph_size, "disabled": disable_ops}

    @staticmethod
    def convert(model: str, config: dict[str, Any]) -> None:
        Path(config["out"]).mkdir(parents=True)
        Path(f"{config['out']}.json").write_text(f"{config['min']} {config['disabled']}")


def test_options_of_a_newer_converter_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TypeError would say that trtd is broken; and an option that is off must not keep 3.0 from being used."""
    monkeypatch.setitem(sys.modules, "paddle", ModuleType("paddle"))
    monkeypatch.setitem(sys.modules, "paddle.tensorrt", OldConverter)
    asked = settings(model_file="model.json", converted=True, tensorrt=tensorrt(disable_ops=("pd_op.pool2d",)))
    convert_pir(asked, tmp_path, {})
    assert (tmp_path / "model.json").read_text() == "5 ['pd_op.pool2d']"
    with pytest.raises(EngineError, match=r"paddle\.tensorrt\.convert of this Paddle has no use_cuda_graph"):
        convert_pir(asked.model_copy(update={"tensorrt": tensorrt(use_cuda_graph=True)}), tmp_path, {})


def test_a_paddle_without_a_converter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The subgraph engine would take the program and do nothing."""
    monkeypatch.setitem(sys.modules, "paddle.tensorrt", None)
    with pytest.raises(EnvironmentMissing, match="cannot convert PIR programs") as error:
        convert_pir(CASES["pir"], tmp_path, {})
    assert "FLAGS_enable_pir_api=0" in error.value.hint


def test_the_tensorrt_that_paddle_will_load_is_found_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and engines in the store would be taken for those of a TensorRT that was put in its place."""
    (tmp_path / "libnvinfer.so.8.5.3").write_bytes(bytes(7))
    (tmp_path / "libnvinfer.so").symlink_to("libnvinfer.so.8.5.3")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere::{tmp_path}")
    assert tensorrt_library() == "libnvinfer.so.8.5.3, 7 bytes"


def test_a_paddle_that_ignores_what_it_is_told_is_found_out(tmp_path: Path) -> None:
    class Deaf(StandInConfig):
        def use_gpu(self) -> bool:
            return False

    class Module(StandInModule):
        Config = Deaf

    with pytest.raises(EnvironmentMissing, match="built without GPUs"):
        make_config(Module, CASES["native"], tmp_path)


@pytest.mark.parametrize(
    ("case", "precision", "dynamic"),
    [("tensorrt", "trt_fp16", "0"), ("ranges", "trt_fp16", "1"), ("tuned", "trt_fp16", "1")],
)
def test_triton_is_told_of_tensorrt(case: str, precision: str, dynamic: str) -> None:
    found = accelerators(CASES[case])
    assert (found["tensorrt"]["precision"], found["tensorrt"]["is_dynamic"]) == (precision, dynamic)
    assert ("min_shape" in found) == (case == "ranges")


def test_triton_is_not_told_of_int8_that_it_would_run_without_scales() -> None:
    """Its Paddle backend turns calibration off, always: INT8 without a quantized model would be FP32 in silence."""
    calibrated = settings(precision="Int8", tensorrt=tensorrt(use_calib_mode=True))
    assert accelerators(calibrated)["tensorrt"]["precision"] == "trt_fp16"
    assert "reads no calibration tables" in limits(calibrated)[0]
    own = settings(precision="Int8", tensorrt=tensorrt(use_calib_mode=False))
    assert accelerators(own)["tensorrt"]["precision"] == "trt_int8"
    assert limits(own) == ()
    assert accelerators(CASES["native"]) == accelerators(CASES["pir"]) == {}
