"""What tests of several rooms share: registries built once a session, copies of them to play with, the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workshop import SPECS, Workshop, prepare_ppocr_det
from trtd.cli.main import main
from trtd.engines import gpu
from trtd.engines.tensorrt import log as tensorrt_log
from trtd.store.device_lock import LOCK_DIR

SOURCE = Path(__file__).parents[1]

pytest_plugins = ("tests.quantized.models",)  # Paddle models that Paddle has quantized: for model and quantize

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: what is tested would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        found = json.loads(self.out)  # raises if anything stands before or behind it
        assert isinstance(found, dict)
        return found


Trtd = Callable[..., Ran]


@pytest.fixture
def trtd(capsys: pytest.CaptureFixture[str]) -> Trtd:
    """Runs a command in this process."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(status, printed.out, printed.err)

    return run


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts ``module:function`` of tests/pipeline in the place of a stage, in every worker that starts from now on."""
    folder = Path(__file__).parent / "pipeline"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "stand_in_site"), str(folder), str(SOURCE)]))

    def place(stage: str, call: str) -> None:
        monkeypatch.setenv("STAND_IN", f"{stage}={call}")

    return place


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("workshop"))
    shop.furnish()
    outcomes = shop.build(shop.spec(precision='["int8", "fp16"]'))
    assert [outcome.error for outcome in outcomes] == [None, None]
    return shop


@pytest.fixture
def shop(_built: Workshop, tmp_path: Path) -> Workshop:
    """A copy of a workshop whose registry holds tiny-int8@1 and tiny-fp16@1, from ``specs/tiny.toml``."""
    shutil.copytree(_built.folder, tmp_path / "shop")
    return Workshop(tmp_path / "shop")


@pytest.fixture
def own(tmp_path: Path) -> Workshop:
    """A workshop to spoil, where nothing is built."""
    shop = Workshop(tmp_path / "own")
    shop.furnish()
    return shop


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no spec of a workshop may read."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The digits example, a real Paddle model, built to digits-int8@1 and digits-fp16@1 on a part of its data."""
    shop = Workshop(tmp_path_factory.mktemp("digits"))
    shop.registry.init()
    shutil.copytree(SPECS / "digits", shop.folder / "digits")
    (shop.folder / "specs").mkdir()
    for file in ("heldout.npy", "heldout_labels.npy"):
        np.save(shop.folder / "digits" / file, np.load(shop.folder / "digits" / file)[:64])
    shapes = "".join(f"{key} = [{batch}, 1, 8, 8]\n" for key, batch in (("min", 1), ("opt", 8), ("max", 16)))
    spec = shop.spec(
        "digits",
        model=f'path = "../digits/model"\n[model.inputs.image]\n{shapes}',
        precision='["int8", "fp16"]',
        calibration='data = "../digits/calibration.npy"\nsamples = 64',
        verify='data = "../digits/heldout.npy"\nlabels = "../digits/heldout_labels.npy"\nmetric = "top1"',
        gates="top1_agreement = 0.95",
    )
    outcomes = shop.build(spec)
    assert [outcome.error for outcome in outcomes] == [None, None]
    return shop


@pytest.fixture(scope="session")
def ppocr_det(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model/``, PP-OCRv4 detection as Paddle 2 saved it, and twelve ``pages/``."""
    folder = tmp_path_factory.mktemp("ppocr-det")
    prepare_ppocr_det(folder)
    return folder


STAND_IN_GPU = Path(__file__).parent / "stand_in_gpu"


@pytest.fixture
def gpus_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., None]]:
    """Puts stand-ins for GPUs, CUDA and TensorRT in the place of the real ones, here and in every child process.

    Call it with the compute capabilities of the GPUs, none for a machine without, and ``fault=`` for one that fails.
    """
    shadowed = ("cuda", "pynvml", "tensorrt", "tensorrt_rtx", "stand_in_tensorrt")
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in shadowed}
    for name in real:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(STAND_IN_GPU))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_IN_GPU), str(SOURCE)]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(LOCK_DIR, str(tmp_path_factory.mktemp("locks")))  # other tests' GPUs have the same names

    def place(*capabilities: str, fault: str = "") -> None:
        monkeypatch.setenv("STAND_IN_GPUS", ",".join(capabilities))
        monkeypatch.setenv("STAND_IN_GPU_FAULT", fault)
        forget_gpus()

    place()
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0] in shadowed]:
        del sys.modules[name]
    sys.modules.update(real)
    forget_gpus()


def forget_gpus() -> None:
    """What a process knows of GPUs and of TensorRT's logger, it learns once."""
    gpu._ask.cache_clear()
    tensorrt_log._loggers.clear()


@pytest.fixture
def paddle_gpu(gpus_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a stand-in for the GPU part of Paddle into every child process, on a GPU like those of :func:`gpus_here`."""
    folder = Path(__file__).parent / "stand_in_paddle"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(STAND_IN_GPU), str(SOURCE)]))

    def place(fault: str = "", capability: str = "8.6") -> None:
        monkeypatch.setenv("STAND_IN_PADDLE_FAULT", fault)
        gpus_here(capability)

    place()
    return place
