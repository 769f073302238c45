"""The runner, on a stand-in GPU: what it feeds, records, refuses and frees. On a real one: test_on_a_gpu.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.tensorrt.networks import expected, write_scaled
from trtd.engines.tensorrt.build import Order, build_engine
from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.engines.tensorrt.run import RUNS_BEFORE_GRAPH, SHAPES_KEPT, TensorRTRunner
from trtd.errors import EngineError, EnvironmentMissing, RegistryError, TrtdError, WorkerOutOfMemory
from trtd.spec.schema import TensorRTSection
from trtd.store.digest import file_digest

Place = Callable[..., None]
TARGETS = tuple(FLAVOURS)
SHAPES = {"x": ((1, 4), (2, 4), (16, 4))}


def made(folder: Path, target: str, capability: str | None = None) -> Path:
    plan = folder / f"{target}.plan"
    order = Order(write_scaled(folder / "scaled.onnx"), SHAPES, TensorRTSection(), capability=capability)
    build_engine(FLAVOURS[target], order, plan, lambda done, total, what: None)
    return plan


def opened(plan: Path, target: str, **options: Any) -> TensorRTRunner:
    return TensorRTRunner(plan, FLAVOURS[target], digest=file_digest(plan), **options)


def rows(count: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)}


@pytest.mark.parametrize("target", TARGETS)
def test_named_arrays_in_any_shape_of_the_profile(target: str, tmp_path: Path, gpus_here: Place) -> None:
    """Shapes change from call to call; a buffer or a graph of the last shape must not answer for the next."""
    gpus_here("8.9")
    runner = opened(made(tmp_path, target), target)
    assert [(t.name, t.dtype, t.shape) for t in (*runner.inputs, *runner.outputs)] == [
        ("x", "float32", (None, 4)),
        ("y", "float32", (None, 4)),
    ]
    for round_ in range(3):
        for count in (1, 16, 2, 7):
            feeds = rows(count, seed=100 * round_ + count)
            np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)
    runner.close()


@pytest.mark.parametrize("target", TARGETS)
def test_a_shape_that_comes_again_is_replayed_as_one_graph(target: str, tmp_path: Path, gpus_here: Place) -> None:
    """A graph launches hundreds of kernels at once, and must read the new inputs, not the recorded ones."""
    gpus_here("8.9")
    from cuda.bindings import runtime

    runner = opened(made(tmp_path, target), target)
    for number in range(RUNS_BEFORE_GRAPH + 3):
        before = runtime.launches
        feeds = rows(2, seed=number)
        np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)
        assert runtime.launches - before == (1 if number >= RUNS_BEFORE_GRAPH else 0)
    runner.close()


def test_what_cannot_be_recorded_runs_without_a_graph(tmp_path: Path, gpus_here: Place) -> None:
    """A network with branches would answer twice, and fail from then on."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    gpus_here("8.9", fault="no-capture")
    runner = opened(plan, "tensorrt")
    for number in range(RUNS_BEFORE_GRAPH + 3):
        feeds = rows(2, seed=number)
        np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fault", ["no-memory", "no-pinned"])
def test_a_run_that_finds_no_memory_gives_back_what_it_had_taken(
    fault: str, tmp_path: Path, gpus_here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses a batch too large would have less memory after each, and soon none."""
    gpus_here("8.9")
    from cuda.bindings import runtime

    runner = opened(made(tmp_path, "tensorrt-rtx"), "tensorrt-rtx")
    runner.run(rows(2))
    before = runtime.cudaMemGetInfo()
    monkeypatch.setenv("STAND_IN_GPU_FAULT", fault)
    for _ in range(3):
        with pytest.raises(WorkerOutOfMemory):
            runner.run(rows(3))
    monkeypatch.delenv("STAND_IN_GPU_FAULT")
    assert runtime.cudaMemGetInfo() == before
    runner.run(rows(3))
    runner.close()
    runner.close()


def test_who_loads_an_engine_finds_nothing_of_it_on_standard_output(
    tmp_path: Path, gpus_here: Place, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """`app.py | jq` would break at TensorRT's first word."""
    gpus_here("8.9")
    caplog.set_level("INFO", "trtd.tensorrt")
    plan = made(tmp_path, "tensorrt")
    opened(plan, "tensorrt").run(rows(1))
    assert capfd.readouterr().out == ""
    assert "the kernels of this engine are stand-ins" in [record.message for record in caplog.records]


def test_graphs_can_be_left_off(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    from cuda.bindings import runtime

    before = runtime.launches
    runner = opened(made(tmp_path, "tensorrt-rtx"), "tensorrt-rtx", graphs=False)
    for _ in range(5):
        runner.run(rows(2))
    assert runtime.launches == before


def test_memory_does_not_grow_with_the_number_of_shapes(tmp_path: Path, gpus_here: Place) -> None:
    """A server sees every batch size sooner or later; and what is closed is given back, all of it."""
    gpus_here("8.9")
    from cuda.bindings import runtime

    at_first = len(runtime._memory)
    runner = opened(made(tmp_path, "tensorrt-rtx"), "tensorrt-rtx")
    for count in range(1, SHAPES_KEPT + 1):
        runner.run(rows(count))
    full = len(runtime._memory)
    for count in (SHAPES_KEPT + 1, SHAPES_KEPT + 2, 1):
        feeds = rows(count)
        np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)
    assert len(runtime._memory) == full
    runner.close()
    assert len(runtime._memory) == at_first


@pytest.mark.parametrize("count", [0, 17])
def test_a_shape_outside_the_profile_is_named_with_its_bounds(count: int, tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    runner = opened(made(tmp_path, "tensorrt"), "tensorrt")
    with pytest.raises(
        EngineError, match=rf"\[{count}, 4\], and the engine was built for \[1, 4\] to \[16, 4\]"
    ) as told:
        runner.run(rows(count))
    assert "min and max in [model.inputs.x]" in told.value.hint
    runner.run(rows(3))  # and the engine still serves


def test_bytes_are_compared_before_tensorrt_sees_them(tmp_path: Path, gpus_here: Place) -> None:
    """Deserializing is running foreign code, and a flipped bit may load: it did, in an engine of TensorRT-RTX 1.6.1."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    digest = file_digest(plan)
    content = bytearray(plan.read_bytes())
    content[-20] ^= 1
    plan.write_bytes(content)
    with pytest.raises(RegistryError, match="not the one that was built"):
        TensorRTRunner(plan, FLAVOURS["tensorrt"], digest=digest)
    plan.write_bytes(content[:-1])
    with pytest.raises(RegistryError, match="not the one that was built"):
        TensorRTRunner(plan, FLAVOURS["tensorrt"], digest=digest)
    plan.unlink()
    with pytest.raises(RegistryError, match="cannot be read"):
        TensorRTRunner(plan, FLAVOURS["tensorrt"], digest=digest)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plan: plan[:-1], "the engine file is torn"),
        (lambda plan: b"ONNX" + plan, "the engine file is torn"),
        (lambda plan: b"", "the engine file is torn"),
        (lambda plan: plan.replace(b'"capability": "89"', b'"capability": "86"'), "built for another GPU"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_one_line(
    damage: Callable[[bytes], bytes], said: str, tmp_path: Path, gpus_here: Place
) -> None:
    """Digests agree where the file was published so; the engine must still not run, nor crash the process."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    plan.write_bytes(damage(plan.read_bytes()))
    with pytest.raises(EngineError, match=said) as told:
        opened(plan, "tensorrt")
    assert "trtd build SPEC --force" in told.value.hint
    assert ".cpp" not in str(told.value)


def test_an_engine_for_another_capability_is_refused_before_it_is_loaded(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt-rtx", "8.6")
    with pytest.raises(EngineError, match=r"for compute capability 8\.6, and here is Stand-in GPU 0 \(8\.9\)"):
        opened(plan, "tensorrt-rtx", capabilities=["8.6"])


def test_of_several_gpus_the_one_that_fits_is_taken(tmp_path: Path, gpus_here: Place) -> None:
    """On a machine with an old and a new GPU, engines for the second would be refused."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt-rtx")
    gpus_here("8.6", "8.9")
    runner = opened(plan, "tensorrt-rtx", capabilities=["8.9"])
    assert runner.gpu.capability == "8.9"
    feeds = rows(2)
    np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)
    with pytest.raises(EngineError, match="another GPU"):
        opened(plan, "tensorrt-rtx", capabilities=["8.6"])


@pytest.mark.parametrize(
    ("fault", "expected_error", "said"),
    [
        ("lost", EnvironmentMissing, "GPU"),
        ("no-memory", WorkerOutOfMemory, "no memory left"),
        ("execute", EngineError, "failed"),
    ],
)
def test_a_gpu_that_fails(
    fault: str, expected_error: type[TrtdError], said: str, tmp_path: Path, gpus_here: Place
) -> None:
    """Which class it is decides whether the daemon tries again, and what the operator is told to look at."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    gpus_here("8.9", fault=fault)
    with pytest.raises(expected_error, match=said):
        opened(plan, "tensorrt").run({"x": np.zeros((16, 4), np.float32)})


def test_a_gpu_that_disappears_between_two_runs(
    tmp_path: Path, gpus_here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus_here("8.9")
    runner = opened(made(tmp_path, "tensorrt"), "tensorrt")
    runner.run(rows(2))
    monkeypatch.setenv("STAND_IN_GPU_FAULT", "lost")
    with pytest.raises(EnvironmentMissing, match="does not answer any more") as told:
        runner.run(rows(2))
    assert "xid" in told.value.hint


def test_no_gpu_at_all(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    gpus_here()
    with pytest.raises(EnvironmentMissing, match="no NVIDIA driver is installed"):
        opened(plan, "tensorrt")


@pytest.mark.parametrize("wrong", [{}, {"x": np.zeros((2, 4), np.float64)}, {"x": np.zeros(4, np.float32)}])
def test_feeds_that_do_not_fit_are_refused(wrong: dict[str, Any], tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    runner = opened(made(tmp_path, "tensorrt"), "tensorrt")
    with pytest.raises(EngineError):
        runner.run(wrong)


def test_compiled_kernels_are_kept_and_read_again(tmp_path: Path, gpus_here: Place) -> None:
    """Without them each load compiles for seconds; a file of another version must not keep it from loading."""
    gpus_here("8.9")
    plan, kernels = made(tmp_path, "tensorrt-rtx"), tmp_path / "cache" / "kernels"
    opened(plan, "tensorrt-rtx", kernels=kernels).close()
    assert kernels.is_file()
    kernels.write_bytes(b"of another version")
    runner = opened(plan, "tensorrt-rtx", kernels=kernels)
    runner.run(rows(1))
    runner.close()
    assert kernels.read_bytes() != b"of another version"


def test_time_on_the_device_and_per_layer(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    runner = opened(made(tmp_path, "tensorrt-rtx"), "tensorrt-rtx")
    times = runner.time_on_device(rows(2), 5)
    assert len(times) == 5
    assert all(ms > 0 for ms in times)
    layers = runner.layers(["dense"], rows(2), 4)
    assert [(layer.nodes, layer.precision, layer.time_ms) for layer in layers.layers] == [
        (("dense",), "fp32", 0.5),
        (("last",), "fp32", 0.5),
    ]
    assert layers.not_in_8_bits == ("dense",)
    feeds = rows(2, seed=9)
    np.testing.assert_allclose(runner.run(feeds)["y"], expected(feeds["x"]), rtol=1e-5, atol=1e-6)


def test_two_engines_in_one_process_each_learn_of_their_own_errors(tmp_path: Path, gpus_here: Place) -> None:
    """TensorRT keeps the first logger of a process: the second engine's complaints would be lost."""
    gpus_here("8.9")
    plan = made(tmp_path, "tensorrt")
    first = opened(plan, "tensorrt")
    torn = tmp_path / "torn.plan"
    torn.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"torn: Assertion plan\.header\.size"):
        opened(torn, "tensorrt")
    first.run(rows(1))
