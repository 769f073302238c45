"""What Paddle 2.6.2 refuses, or should be kept from: as errors of ours, with what helps."""

from __future__ import annotations

import mmap
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.paddle_gpu.cases import NATIVE, ON_CPU, TENSORRT, settings, tensorrt
from tests.paddle_gpu.conftest import HERE, Child
from tests.paddle_gpu.wheel import need_the_wheel
from trtd.engines.paddle.building import ENGINE_PREFIX
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import MEMORY, MISSING, PaddleRunner, gist, load_error
from trtd.engines.paddle.settings import OPT_CACHE
from trtd.engines.paddle.subgraphs import FOUND
from trtd.engines.paddle.tables import TABLE_PREFIX
from trtd.errors import EngineError, EnvironmentMissing, WorkerOutOfMemory

need_the_wheel()

PIR = HERE.parents[1] / "specs" / "digits" / "model"


def test_an_option_of_paddle_3_is_named(inference: Any, folder: Path) -> None:
    """A bare AttributeError would be taken for a bug of ours."""
    with pytest.raises(EngineError, match=r"has no exp_disable_tensorrt_subgraph, which came with 3\.0") as error:
        make_config(inference, tensorrt("Half", disable_subgraph=("relu_0.tmp_0",)), folder)
    assert "[engine.paddle]" in error.value.hint


def test_int8_is_refused_as_a_precision_of_paddles_own_kernels(inference: Any, folder: Path) -> None:
    """The spec refuses it before; if both let it pass, INT8 would be FP32."""
    refused = r"Paddle refuses enable_use_gpu: \(InvalidArgument\) The GPU inference currently only supports float32/"
    with pytest.raises(EngineError, match=refused):
        make_config(inference, settings("Int8"), folder)


def test_a_value_of_a_wrong_type_is_refused(inference: Any, folder: Path) -> None:
    """2**63 bytes are no workspace; what the spec lets through must not end as a TypeError."""
    with pytest.raises(EngineError, match="Paddle refuses enable_tensorrt_engine: "):
        make_config(inference, tensorrt("Half", workspace_size=1 << 63), folder)


def test_what_paddle_says_of_a_bad_value_is_found_in_its_message(inference: Any, folder: Path) -> None:
    """Of several lines, the one that says what is wrong."""
    config = make_config(inference, TENSORRT["fp16"], folder)
    with pytest.raises(ValueError, match="InvalidArgument") as level:
        config.set_tensorrt_optimization_level(9)
    assert "must be in range [0, 5], but received level = 9" in gist(level.value)
    with pytest.raises(ValueError, match="InvalidArgument") as path:
        config.collect_shape_range_info("")
    assert gist(path.value).startswith("(InvalidArgument) The shape_range_info_path should not be empty")


def test_a_config_serves_one_predictor(inference: Any, folder: Path) -> None:
    """A second one of it is refused by Paddle, and by name with us."""
    config = make_config(inference, ON_CPU, folder)
    PaddleRunner(inference, config, ON_CPU.inputs, "model.pdmodel").close()
    with pytest.raises(EngineError, match="Each config can only be used for one predictor"):
        PaddleRunner(inference, config, ON_CPU.inputs, "model.pdmodel")


def test_a_pir_program_kills_this_paddle(child: Child) -> None:
    """The reason for the next test: if it lived, the refusal could go."""
    code = "import sys, paddle.inference as i; c = i.Config(*sys.argv[1:]); c.disable_gpu(); i.create_predictor(c)"
    done = child("-c", code, PIR / "inference.json", PIR / "inference.pdiparams")
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("case", [ON_CPU, NATIVE["fp16"], TENSORRT["fp16"]], ids=["cpu", "native", "tensorrt"])
def test_a_pir_program_never_reaches_it(case: Any, inference: Any) -> None:
    asked = case.model_copy(update={"model_file": "inference.json", "params_file": "inference.pdiparams"})
    config = make_config(inference, asked, PIR)
    with pytest.raises(EngineError, match=r"Paddle 2\.6\.2 cannot read a PIR program") as error:
        PaddleRunner(inference, config, asked.inputs, str(PIR))
    assert error.value.where.endswith("inference.json")


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("case", [*NATIVE.values(), *TENSORRT.values()], ids=[*NATIVE, *(f"trt-{c}" for c in TENSORRT)])
def test_without_a_gpu(case: Any, inference: Any, folder: Path) -> None:
    """The daemon waits for an environment; an engine error would be final."""
    config = make_config(inference, case, folder)
    with pytest.raises(EnvironmentMissing) as error:
        PaddleRunner(inference, config, case.inputs, "model.pdmodel")
    says = "(InvalidArgument) Device id must be less than GPU count, but received id is: 0. GPU count is: 0."
    assert error.value.message == f"Paddle finds no GPU: {says}"
    assert "nvidia-smi" in error.value.hint


@pytest.mark.parametrize("asks", ["summary", "get_trt_runtime_version"])
def test_without_libnvinfer(asks: str, inference: Any, folder: Path) -> None:
    """Both open the library as a predictor does, which without a GPU fails before it comes to that."""
    owner = make_config(inference, TENSORRT["fp16"], folder) if asks == "summary" else inference
    try:
        getattr(owner, asks)()
    except RuntimeError as error:
        told = load_error(error, "model.pdmodel")
    else:
        pytest.skip("libnvinfer is installed here")
    assert isinstance(told, EnvironmentMissing)
    says = "(NotFound) TensorRT is needed, but TensorRT dynamic library is not found."
    assert told.message == f"Paddle finds no TensorRT: {says}"
    assert "LD_LIBRARY_PATH" in told.hint


@pytest.mark.usefixtures("inference")  # which imports paddle without its warning that there is no GPU
def test_what_only_a_gpu_brings_out_stands_in_the_library() -> None:
    """A mark that Paddle never writes would recognize nothing, and tables of another name would never be found."""
    import paddle

    home = Path(paddle.__file__).parent
    wanted = {mark.partition("(2)")[0] for mark in MEMORY} | {mark for marks, _ in MISSING.values() for mark in marks}
    wanted |= {TABLE_PREFIX, ENGINE_PREFIX, f"/{OPT_CACHE}/", FOUND.pattern.partition("(")[0]}
    for library in (home / "base" / "libpaddle.so", home / "libs" / "libphi.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            wanted = {mark for mark in wanted if view.find(mark.encode()) < 0}
    assert wanted == set()


def test_memory_that_ran_out_is_told_apart() -> None:
    """Another try may find more; the text is the one that stands in the library."""
    text = "(ResourceExhausted) \n\nOut of memory error on GPU 0. Cannot allocate 1.0GB memory on GPU 0, ..."
    assert isinstance(load_error(RuntimeError(text), "model.pdmodel"), WorkerOutOfMemory)
    assert isinstance(load_error(OSError("(External) CUDA error(2), out of memory."), "m"), WorkerOutOfMemory)


def test_a_model_that_is_torn(inference: Any, folder: Path, tmp_path: Path, expected: Mapping[str, Any]) -> None:
    """Not a missing environment: waiting would help nobody."""
    (tmp_path / "model.pdmodel").write_bytes((folder / "model.pdmodel").read_bytes())
    (tmp_path / "model.pdiparams").write_bytes((folder / "model.pdiparams").read_bytes()[:100])
    with pytest.raises(EngineError, match="Paddle cannot load it: "):
        PaddleRunner(inference, make_config(inference, ON_CPU, tmp_path), ON_CPU.inputs, "model.pdmodel")
