"""Which GPUs are here, asked of a stand-in for the driver's library."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trtd.engines import gpu
from trtd.engines.gpu import gpus
from trtd.engines.table import BACKENDS

Place = Callable[..., None]


def test_all_that_is_asked_of_a_gpu(gpus_here: Place) -> None:
    gpus_here("8.9", "9.0")
    here = gpus()
    assert [(g.uuid, g.name, g.capability) for g in here.found] == [
        ("GPU-stand-in-0", "Stand-in GPU 0", "8.9"),
        ("GPU-stand-in-1", "Stand-in GPU 1", "9.0"),
    ]
    assert (here.driver, here.cuda, here.capabilities, here.reason) == ("580.00.00", "13.0", ("8.9", "9.0"), "")


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("1", ["GPU-stand-in-1"]),
        ("1,0", ["GPU-stand-in-1", "GPU-stand-in-0"]),
        ("GPU-stand-in-1", ["GPU-stand-in-1"]),
        ("0,7,1", ["GPU-stand-in-0"]),
        ("", []),
        ("-1", []),
    ],
)
def test_visible_devices_hide_and_order_as_cuda_does(
    visible: str, uuids: list[str], gpus_here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinal of another order would judge one GPU and lock another."""
    gpus_here("8.9", "9.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [g.uuid for g in gpus().found] == uuids
    assert gpus().reason == ("" if uuids else "CUDA_VISIBLE_DEVICES hides them")


def test_no_driver_a_lost_gpu_and_no_package_are_told_apart(gpus_here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus_here()
    assert gpus().reason == "no NVIDIA driver is installed"
    gpus_here("8.9", fault="lost")
    assert gpus().reason == "the NVIDIA driver says: GPU is lost"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu._ask.cache_clear()
    assert gpus().reason == "nvidia-ml-py, which finds them, is not installed: pip install nvidia-ml-py"


def test_a_gpu_that_comes_or_goes_is_seen_without_a_restart(
    gpus_here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon runs for months; asking the driver each second would keep the GPU awake."""
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "version").write_text("580")
    monkeypatch.setattr(gpu, "_DRIVER", tmp_path)
    gpus_here("8.9")
    assert len(gpus().found) == 1
    monkeypatch.setenv("STAND_IN_GPUS", "8.9,9.0")
    assert len(gpus().found) == 1
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text("GPU 1")
    assert len(gpus().found) == 2


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_what_is_built_ahead_of_time_does_not_depend_on_the_gpu_here(target: str, gpus_here: Place) -> None:
    """Its digest must be the same on the build server and on the GPU box; a build for this GPU must differ."""
    backend = BACKENDS[target]
    gpus_here()
    without = backend.fingerprint(("8.9",)), backend.fingerprint(())
    gpus_here("8.9")
    with_one = backend.fingerprint(("8.9",)), backend.fingerprint(())
    assert (without[0] == with_one[0]) == (target == "tensorrt-rtx")
    assert without[1] != with_one[1]
    assert with_one[1]["gpu"] == "Stand-in GPU 0 (8.9)"


def test_what_a_target_cannot_do_here_and_what_would(gpus_here: Place) -> None:
    gpus_here()
    missing = BACKENDS["tensorrt"].missing((), "fp16")
    assert missing is not None
    assert "builds on a GPU, and there is none here" in missing.message
    assert 'compute_capabilities = ["8.6"]' in missing.hint
    assert BACKENDS["tensorrt-rtx"].missing(("8.6",), "fp16") is None
    assert "there is no GPU here" in BACKENDS["tensorrt-rtx"].unverifiable(("8.6",))
    gpus_here("8.9")
    assert BACKENDS["tensorrt"].missing((), "fp16") is None
    absent = BACKENDS["tensorrt"].missing(("8.6",), "fp16")
    assert absent is not None
    assert "no GPU of compute capability 8.6 here: 8.9" in absent.message
    assert BACKENDS["tensorrt-rtx"].unverifiable(("8.9", "12.0")) == ""
    assert BACKENDS["tensorrt-rtx"].unverifiable(("8.6",)) == "the GPU here has compute capability 8.9, not 8.6"


def test_which_gpus_building_and_running_take(gpus_here: Place) -> None:
    """A measurement would lock another GPU than the one that it runs on, or an ahead-of-time build one for nothing."""
    full, rtx, cpu = BACKENDS["tensorrt"], BACKENDS["tensorrt-rtx"], BACKENDS["onnxruntime-cpu"]
    first, second = "GPU-stand-in-0", "GPU-stand-in-1"
    gpus_here("8.9", "9.0", "9.0")
    assert (cpu.builds_on(()), cpu.runs_on(())) == ((), "")
    for backend in (full, rtx):
        assert (backend.builds_on(()), backend.runs_on(())) == ((first,), first)
        assert backend.runs_on(("12.0", "9.0")) == second
        assert backend.runs_on(("12.0",)) == ""
    assert full.builds_on(("9.0", "8.9")) == (second, first)  # kernels are timed on each
    assert rtx.builds_on(("9.0", "8.9")) == ()
    gpus_here()
    assert (full.builds_on(()), full.builds_on(("8.9",)), full.runs_on(())) == ((), (), "")
