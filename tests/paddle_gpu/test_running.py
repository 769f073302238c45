"""As far as the GPU wheel runs without a GPU: the reference, the script, shapes, mixed precision, and its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paddle_gpu.cases import NATIVE, ON_CPU, TENSORRT
from tests.paddle_gpu.conftest import Child
from tests.paddle_gpu.wheel import need_the_wheel
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.precision import convert_to_mixed_precision
from trtd.engines.paddle.predictor import PaddleRunner
from trtd.engines.paddle.reference import open_paddle_on_cpu
from trtd.engines.paddle.script import render_script
from trtd.engines.paddle.settings import PaddleSettings
from trtd.engines.paddle.shapes import collect_shape_ranges
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.paddle_ptq import PtqOptions, produce_ptq

need_the_wheel()

Arrays = Mapping[str, np.ndarray[Any, Any]]


def test_the_reference_is_what_the_network_computed(inference: Any, folder: Path, expected: Arrays) -> None:
    """It judges engines on GPU boxes, where this wheel is the Paddle that is installed."""
    feeds = {"image": expected["image"]}
    (reference,) = open_paddle_on_cpu(locate(folder), ON_CPU.inputs).run(feeds).values()
    np.testing.assert_allclose(reference, expected["scores"], rtol=1e-5, atol=1e-6)
    runner = PaddleRunner(inference, make_config(inference, ON_CPU, folder), ON_CPU.inputs, "model.pdmodel")
    (ours,) = runner.run(feeds).values()
    np.testing.assert_array_equal(ours, reference)


def script(settings: PaddleSettings, folder: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The script beside a copy of the model, its inputs, and where its outputs go."""
    for name in (settings.model_file, settings.params_file):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "run.py").write_text(render_script(settings, "run.py"))
    with np.load(folder / "expected.npz") as arrays:
        np.savez(tmp_path / "in.npz", image=arrays["image"])
    return tmp_path / "run.py", tmp_path / "in.npz", tmp_path / "out.npz"


def test_the_script_computes_the_same_on_the_cpu(child: Child, folder: Path, tmp_path: Path, expected: Arrays) -> None:
    """It is the engine for who uses Paddle alone."""
    done = child(*script(ON_CPU, folder, tmp_path))
    assert done.returncode == 0, done.stderr
    (found,) = np.load(tmp_path / "out.npz").values()
    np.testing.assert_allclose(found, expected["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("case", ["native", "tensorrt", "int8-calibrated", "ranges", "tuned", "disabled"])
def test_the_script_gets_as_far_as_a_gpu_is_needed(case: str, child: Child, folder: Path, tmp_path: Path) -> None:
    """Every call before is accepted by the real Config; what fails is the first that needs the device."""
    settings = {**TENSORRT, "native": NATIVE["fp16"], "tensorrt": TENSORRT["fp16"]}[case]
    done = child(*script(settings, folder, tmp_path))
    assert done.returncode == 1
    trace = [line.strip() for line in done.stderr.splitlines()]
    assert [line for line in trace if line.startswith("predictor = ")] == [
        "predictor = paddle.create_predictor(config)"
    ]
    assert any("Device id must be less than GPU count" in line for line in trace)


def test_shapes_are_collected_without_a_gpu(inference: Any, folder: Path, tmp_path: Path) -> None:
    """The file is what enable_tuned_tensorrt_dynamic_shape reads: all tensors, not only inputs."""
    out = tmp_path / "shape_range_info.pbtxt"
    feeds = ({"image": np.zeros((size, 1, 8, 8), np.float32)} for size in (1, 3, 3))
    collect_shape_ranges(inference, TENSORRT["tuned"], folder, feeds, out)
    text = out.read_text()
    image = next(part for part in text.split("shape_range_info") if '"image"' in part)
    first = {key: next(line for line in image.splitlines() if f"{key}:" in line).split()[-1] for key in KEYS}
    assert first == {"min_shape": "1", "max_shape": "3", "opt_shape": "3"}
    assert text.count("shape_range_info {") > 5


KEYS = ("min_shape", "max_shape", "opt_shape")


@pytest.mark.parametrize("precision", ["Half", "Bfloat16"])
def test_weights_are_converted_without_a_gpu(precision: Any, inference: Any, folder: Path, tmp_path: Path) -> None:
    """The wheel for CPUs writes the same files and converts nothing, which is found by their size."""
    model, params = folder / "model.pdmodel", folder / "model.pdiparams"
    convert_to_mixed_precision(inference, model, params, tmp_path / "m.pdmodel", tmp_path / "m.pdiparams", precision)
    assert (tmp_path / "m.pdiparams").stat().st_size < 0.6 * params.stat().st_size


@pytest.mark.parametrize("algorithm", ["abs_max", "hist"])
def test_paddle_quantizes_the_model_without_a_gpu(
    algorithm: Any, inference: Any, folder: Path, tmp_path: Path, expected: Arrays
) -> None:
    """``producer = "paddle-ptq"`` where this Paddle builds the engines. It takes no data loader but one of its own."""
    feeds = ({"image": expected["image"]} for _ in range(2))
    made = produce_ptq(
        locate(folder / "model.pdmodel"), feeds, tmp_path, PtqOptions(algorithm=algorithm), print, lambda *_: None
    )
    assert read_facts(made).quantized
    (found,) = open_paddle_on_cpu(made, ON_CPU.inputs).run({"image": expected["image"]}).values()
    error = np.linalg.norm(found - expected["scores"]) / np.linalg.norm(expected["scores"])
    assert 0 < error < 0.1


SPEAKS = """
import sys
from pathlib import Path
from tests.paddle_gpu.cases import ON_CPU
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import PaddleRunner, paddle_inference
from trtd.engines.paddle.subgraphs import counted

module, folder = paddle_inference(), Path(sys.argv[1])
with counted() as found:
    PaddleRunner(module, make_config(module, ON_CPU, folder, log=sys.argv[2] == "log"), ON_CPU.inputs, "model")
print(found.nodes)
"""


@pytest.mark.parametrize("log", ["log", "quiet"])
def test_the_log_that_subgraphs_are_counted_in_speaks(log: str, child: Child, folder: Path) -> None:
    """Calibration reads "detect a sub-graph with N nodes" there, which Paddle writes at the level INFO."""
    done = child("-c", SPEAKS, folder, log)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    spoken = [line for line in done.stderr.splitlines() if line.startswith("I")]
    assert any("optimize end" in line for line in spoken) == (log == "log")
    assert bool(spoken) == (log == "log")
