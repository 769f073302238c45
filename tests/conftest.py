"""What tests of several rooms share: registries built once a session, copies of them to play with, the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workshop import SPECS, Workshop
from trtd.cli.main import main

SOURCE = Path(__file__).parents[1]

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
