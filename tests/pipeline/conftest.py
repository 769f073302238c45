"""Fixtures of the pipeline's tests: jobs that run stand-in stages, and waiting for processes to go."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtd
from tests.workshop import Workshop
from trtd.pipeline.job import Job


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes jobs that run a function of stand_in_stages.py; workers find it and this trtd by PYTHONPATH."""
    source = Path(str(trtd.__file__)).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(source)]))

    def make(function: str, inputs: dict[str, Any] | None = None, **more: Any) -> Job:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        fields: dict[str, Any] = {"stage": "convert", "call": f"stand_in_stages:{function}", "deadline_s": 120.0} | more
        return Job(inputs=inputs or {}, out=out, **fields)

    return make


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], str], None]:
    """Waits until something is so, and fails only after far longer than it should take."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        give_up_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up_s, f"waited in vain until {what}"
            time.sleep(0.02)

    return wait


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Tells whether a process has ended; a zombie that nobody has collected yet has."""

    def gone(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"

    return gone


@pytest.fixture
def works(tmp_path: Path, quantized_programs: Path) -> Workshop:
    """A workshop: ``models/float``, ``calibrated``, ``trained`` and ``fake``, and two dozen items for both inputs."""
    shop = Workshop(tmp_path / "works")
    for folder in ("models", "specs", "items"):
        (shop.folder / folder).mkdir(parents=True)
    for model in ("float", "calibrated", "trained", "fake"):
        shutil.copytree(quantized_programs / model, shop.folder / "models" / model)
        (shop.folder / "models" / model / "reference.npz").unlink(missing_ok=True)
    random = np.random.default_rng(3)
    for number in range(24):
        shapes = {"image": (3, 16, 16), "tokens": (6, 8)}
        arrays: dict[str, Any] = {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        np.savez(shop.folder / "items" / f"{number:02d}.npz", **arrays)
    shop.registry.init()
    return shop
