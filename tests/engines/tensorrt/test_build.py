"""The builder: one path for TensorRT and TensorRT-RTX. On a stand-in; the real TensorRT-RTX: test_ahead_of_time.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engines.tensorrt.networks import write_scaled
from trtd.engines.tensorrt.build import Order, build_engine
from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory
from trtd.spec.schema import TensorRTSection

Place = Callable[..., None]
SHAPES = {"x": ((1, 4), (2, 4), (16, 4))}


def order(folder: Path, **changes: Any) -> Order:
    facts = {"graph": write_scaled(folder / "scaled.onnx"), "shapes": SHAPES, "options": TensorRTSection()}
    return Order(**{**facts, **changes})


def quiet(done: int, total: int, what: str) -> None:
    pass


def flags_of(plan: Path) -> set[str]:
    return set(json.loads(plan.read_bytes().partition(b"\n")[0].partition(b"{")[2].join([b"{", b""]))["flags"])


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, set()),
        ({"tf32": True}, {"TF32"}),
        ({"sparse_weights": True, "version_compatible": True}, {"SPARSE_WEIGHTS", "VERSION_COMPATIBLE"}),
    ],
)
def test_options_become_flags(options: dict[str, Any], flags: set[str], tmp_path: Path, gpus_here: Place) -> None:
    """TF32 is on in TensorRT unless it is taken away, and no FP32 engine would be one."""
    gpus_here("8.9")
    plan = tmp_path / "x.plan"
    build_engine(FLAVOURS["tensorrt"], order(tmp_path, options=TensorRTSection(**options)), plan, quiet)
    assert flags_of(plan) == flags


def test_progress_grows_from_nothing_to_all(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    heard: list[tuple[int, int, str]] = []
    built = build_engine(FLAVOURS["tensorrt"], order(tmp_path), tmp_path / "x.plan", lambda *event: heard.append(event))
    done = [event[0] for event in heard]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == heard[-1][1]
    assert {event[2] for event in heard} == {"Building Engine", "Timing"}
    assert built.warnings == ["the kernels of this engine are stand-ins"]


def test_timings_are_kept_for_each_gpu_and_their_reuse_is_told(tmp_path: Path, gpus_here: Place) -> None:
    """Timing kernels is what makes a build last; on RTX, which times none, no file may appear."""
    gpus_here("8.9")
    kept = tmp_path / "timings"
    for told in ("0 of 2", "2 of 2"):
        built = build_engine(FLAVOURS["tensorrt"], order(tmp_path, kept_timings=kept), tmp_path / "x.plan", quiet)
        assert told in built.timing_cache
    assert [file.name for file in kept.iterdir()] == ["GPU-stand-in-0.timings"]
    (kept / "GPU-stand-in-0.timings").write_bytes(b"of another version")
    again = build_engine(FLAVOURS["tensorrt"], order(tmp_path, kept_timings=kept), tmp_path / "x.plan", quiet)
    assert "0 of 2" in again.timing_cache
    rtx = build_engine(FLAVOURS["tensorrt-rtx"], order(tmp_path, kept_timings=kept), tmp_path / "x.plan", quiet)
    assert rtx.timing_cache == ""


def test_a_given_timing_cache_of_another_version_is_refused(tmp_path: Path, gpus_here: Place) -> None:
    """It is the user's file: building without it would take the time that they wanted to save, in silence."""
    gpus_here("8.9")
    foreign = tmp_path / "foreign.timings"
    foreign.write_bytes(b"of another version")
    with pytest.raises(EngineError, match="timing cache is torn, or of another version") as told:
        build_engine(FLAVOURS["tensorrt"], order(tmp_path, given_timings=foreign), tmp_path / "x.plan", quiet)
    assert str(foreign) in told.value.where
    assert not (tmp_path / "x.plan").exists()


@pytest.mark.parametrize("target", FLAVOURS)
def test_an_operator_without_kernel_or_plugin_is_named_with_its_node(
    target: str, tmp_path: Path, gpus_here: Place
) -> None:
    gpus_here("8.9")
    foreign = write_scaled(tmp_path / "foreign.onnx", op="Wavelet", domain="my.ops")
    with pytest.raises(EngineError, match="neither a kernel nor a plugin for Wavelet") as told:
        build_engine(FLAVOURS[target], order(tmp_path, graph=foreign), tmp_path / "x.plan", quiet)
    assert told.value.where == "last"
    assert ".cpp" not in str(told.value)


def test_an_input_without_shapes_is_named(tmp_path: Path, gpus_here: Place) -> None:
    gpus_here("8.9")
    with pytest.raises(EngineError, match="the input x has no shapes") as told:
        build_engine(FLAVOURS["tensorrt"], order(tmp_path, shapes={}), tmp_path / "x.plan", quiet)
    assert "[model.inputs.x]" in told.value.hint


@pytest.mark.parametrize(
    ("gpus", "fault", "error", "said"),
    [
        ([], "", EnvironmentMissing, "there is no GPU: no NVIDIA driver"),
        (["8.9"], "no-memory-to-build", WorkerOutOfMemory, "ran out of device memory"),
    ],
)
def test_a_machine_that_cannot(
    gpus: list[str], fault: str, error: type[TrtdError], said: str, tmp_path: Path, gpus_here: Place
) -> None:
    gpus_here(*gpus, fault=fault)
    with pytest.raises(error, match=said):
        build_engine(FLAVOURS["tensorrt"], order(tmp_path), tmp_path / "x.plan", quiet)


def test_a_capability_that_is_not_here(tmp_path: Path, gpus_here: Place) -> None:
    """TensorRT builds for the GPU that it runs on, whatever the file would be called."""
    gpus_here("8.9")
    with pytest.raises(EngineError, match=r"for compute capability 8\.6, and here is"):
        build_engine(FLAVOURS["tensorrt"], order(tmp_path, capability="8.6"), tmp_path / "x.plan", quiet)
