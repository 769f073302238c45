"""Real Paddle models that Paddle itself has quantized, made and run once a session, and what they are imported as."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtd.model.locate import locate
from trtd.model.paddle_ptq import PtqOptions, produce_ptq
from trtd.quantize.imported import ImportedQuantization
from trtd.quantize.paddle_import import convert_quantized

Array = np.ndarray[Any, Any]

# Of the inputs of ``float`` and what was quantized of it.
SHAPES = """\
[model.inputs.image]
min = [1, 3, 16, 16]
opt = [2, 3, 16, 16]
max = [4, 3, 16, 16]
[model.inputs.tokens]
min = [1, 6, 8]
opt = [2, 6, 8]
max = [4, 6, 8]
"""
# Gates that these small networks, of random weights, pass in 8 bits.
LENIENT = "cosine = 0.5\nrelative_l2 = 0.9"


@dataclass(frozen=True)
class Imported:
    """A quantized model, what it was converted to, and what Paddle makes of some inputs."""

    source: Path
    folder: Path
    quantization: ImportedQuantization
    log: tuple[str, ...]
    reference: dict[str, Array]

    def named(self, prefix: str) -> dict[str, Array]:
        """Of :attr:`reference`: ``input``, ``output`` or ``rounded``, by name."""
        return {k.partition(":")[2]: array for k, array in self.reference.items() if k.startswith(f"{prefix}:")}


def _script(*arguments: str | Path) -> None:
    script = Path(__file__).with_name("export.py")
    done = subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def quantized_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "float", "trained", "fake" and, by Paddle's post-training quantization, "calibrated"."""
    if find_spec("paddle") is None:
        pytest.skip("paddlepaddle is not installed")
    folder = tmp_path_factory.mktemp("programs")
    _script("older", folder)
    random = np.random.default_rng(1)
    shapes = {"image": (4, 3, 16, 16), "tokens": (4, 6, 8)}
    feeds = ({n: random.standard_normal(s).astype("float32") for n, s in shapes.items()} for _ in range(3))
    options = PtqOptions(algorithm="hist", skip=("linear_6.w_0",))
    produce_ptq(locate(folder / "float"), feeds, folder / "calibrated", options, print, lambda done, total: None)
    _script("run", folder / "calibrated", folder / "trained")
    return folder


@pytest.fixture(scope="session")
def quantized_pir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "stored" and "unrounded", in Paddle 3's own format."""
    if find_spec("paddle") is None:
        pytest.skip("paddlepaddle is not installed")
    folder = tmp_path_factory.mktemp("pir")
    _script("pir", folder)
    return folder


@pytest.fixture(scope="session")
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Imported]:
    """Imports a model of the folders above, once a session."""
    if find_spec("paddle2onnx") is None:
        pytest.skip("paddle2onnx is not installed; it has no release for Python 3.13")

    @cache
    def convert(name: str) -> Imported:
        fixture = "quantized_pir" if name in ("stored", "unrounded") else "quantized_programs"
        source = request.getfixturevalue(fixture) / name
        folder = tmp_path_factory.mktemp(name)
        log: list[str] = []
        quantization, _ = convert_quantized(locate(source), folder, log.append)
        return Imported(source, folder, quantization, tuple(log), dict(np.load(source / "reference.npz")))

    return convert
