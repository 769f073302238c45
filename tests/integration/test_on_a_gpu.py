"""On a real GPU, with whichever TensorRT is installed: what the stand-ins of the other tests stand in for.

``pytest -m gpu`` runs these alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trtd as api
from benchmarks.architectures import encoder
from tests.integration.test_ahead_of_time import noise
from tests.workshop import Workshop
from trtd.engines.gpu import gpus
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.errors import EngineError

INSTALLED = [target for target, flavour in FLAVOURS.items() if flavour.version() is not None]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus().found, reason=f"there is no GPU here: {gpus().reason}"),
    pytest.mark.skipif(not INSTALLED, reason="no TensorRT is installed: pip install 'trtd[rtx]'"),
]


@pytest.mark.parametrize("target", INSTALLED)
def test_a_transformer_encoder_is_built_verified_and_run(target: str, tmp_path: Path) -> None:
    """Every shape of the profile, first recorded, then replayed, gives what ONNX Runtime gives in FP32."""
    shop = Workshop(tmp_path)
    (tmp_path / "specs").mkdir()
    shop.registry.init()
    encoder(tmp_path / "encoder.onnx", layers=2, width=256, heads=4, tokens=64)
    spec = shop.spec(
        "net",
        model='path = "../encoder.onnx"\n[model.inputs.x]\nmin = [1, 64, 256]\nopt = [4, 64, 256]\nmax = [8, 64, 256]',
        precision=f'["fp32", "fp16", "int8"]\ntarget = "{target}"',
        calibration=noise(tmp_path / "noise", (64, 256)),
    )
    outcomes = shop.build(spec)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    reference = OnnxRuntimeRunner(tmp_path / "encoder.onnx")
    for outcome, bound in zip(outcomes, (1e-2, 5e-2, 0.3), strict=True):
        assert outcome.report is not None
        assert outcome.report.proof == "verified"
        assert outcome.report.device_times is not None
        with api.load(shop.registry.root, outcome.name) as engine:
            for seed, batch in enumerate((1, 4, 8, 4, 1, 8) * 2):
                x = np.random.default_rng(seed).standard_normal((batch, 64, 256)).astype(np.float32)
                wanted, found = reference.run({"x": x})["y"], engine.run({"x": x})["y"]
                assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < bound
            with pytest.raises(EngineError, match=r"built for \[1, 64, 256\] to \[8, 64, 256\]"):
                engine.run({"x": np.zeros((9, 64, 256), np.float32)})
