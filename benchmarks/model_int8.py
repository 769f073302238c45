"""The INT8 column of the model-support matrix: a whole build of each architecture, calibrated on made-up inputs.

Weights are random, so the figures say that the architecture quantizes and how well its arithmetic survives, not how a
trained model of it will do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtd.errors import TrtdError
from trtd.pipeline.build import Request, build
from trtd.registry.layout import Registry
from trtd.verify.report import Report

ITEMS = 40
# Gates decide nothing here: the matrix shows how an architecture does, published or not.
SPEC = """\
name = "cell"
[model]
path = "{model}"
{shapes}
[calibration]
data = "data"
samples = 32
method = "mse"
[verify]
latency_runs = 11
[verify.gates]
cosine = 0.01
min_speedup = 0.01
"""

Make = Callable[[np.random.Generator], dict[str, Any]]


def int8_column(model: Path, inputs: Sequence[tuple[str, Sequence[int]]], make: Make) -> str:
    """Build INT8; returns worst SQNR of an output in dB, and the speedup over FP32.

    Args:
        inputs: name and shape (batch included) of every input.
        make: one item, by input name, from a random generator.
    """
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder) / "registry")
        registry.init()
        data = registry.specs / "data"
        data.mkdir()
        rng = np.random.default_rng(3)
        for number in range(ITEMS):
            np.savez(data / f"{number:02d}.npz", **make(rng))
        spec = registry.specs / "cell.toml"
        shapes = "\n".join(
            f'[model.inputs."{name}"]\nmin = {list(shape)}\nopt = {list(shape)}\nmax = {list(shape)}'
            for name, shape in inputs
        )
        spec.write_text(SPEC.format(model=model, shapes=shapes))
        try:
            report = _build(spec, registry, model)
        except TrtdError as error:
            return f"no: {error.message.splitlines()[0][:120]}"
    worst = min(f.sqnr_db for f in report.fidelity.values())
    return f"{worst:.1f} dB, {report.speedup:.1f}x"


def _build(spec: Path, registry: Registry, model: Path) -> Report:
    outcome = build(spec, Request(registry, extra_roots=(model,)))[0]
    if outcome.report is None:
        raise outcome.error or TrtdError("neither a report nor an error")
    return outcome.report
