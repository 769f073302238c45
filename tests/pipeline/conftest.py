"""Fixtures of the pipeline's tests: jobs that run stand-in stages, and waiting for processes to go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtd
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
