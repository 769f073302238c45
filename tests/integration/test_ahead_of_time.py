"""Real TensorRT-RTX engines, built ahead of time on a machine without a GPU, of four kinds of network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import trtd as api
from benchmarks.architectures import encoder, resnet50
from tests.workshop import Workshop, prepare_ppocr_det
from trtd.engines.gpu import gpus
from trtd.errors import EnvironmentMissing
from trtd.registry.lookup import current

pytest.importorskip("tensorrt_rtx", reason="pip install 'trtd[rtx]'")
pytestmark = pytest.mark.skipif(bool(gpus().found), reason="what is built ahead of time is verified where a GPU is")

MOBILENET = """\
import sys, paddle
net = paddle.vision.models.mobilenet_v3_small(num_classes=100)
net.eval()
paddle.jit.save(net, sys.argv[1], [paddle.static.InputSpec([None, 3, 64, 64], "float32", "x")])
"""
CAPABILITIES = ("8.6", "8.9", "12.0")
PLANS = ("model_cc86.plan", "model_cc89.plan", "model_cc120.plan")
MAGIC = b"vtrt"  # the first bytes of every engine of TensorRT-RTX 1.7


def noise(folder: Path, shape: tuple[int, ...]) -> str:
    """Twelve items of noise: what counts here is that engines come out, not what they say."""
    folder.mkdir()
    random = np.random.default_rng(5)
    for number in range(12):
        np.save(folder / f"{number}.npy", random.standard_normal(shape).astype(np.float32))
    return f'data = "../{folder.name}/*.npy"'


def pp_ocrv4_detection(folder: Path) -> tuple[str, tuple[int, ...], str]:
    prepare_ppocr_det(folder / "det")
    recipe = '[calibration.preprocess]\nresize = [320, 320]\nchannels = "bgr"\nmean = [0.485, 0.456, 0.406]\n'
    return "det/model", (3, 320, 320), f'data = "../det/pages/*.png"\n{recipe}std = [0.229, 0.224, 0.225]'


def resnet_50(folder: Path) -> tuple[str, tuple[int, ...], str]:
    resnet50(folder / "resnet50.onnx")
    return "resnet50.onnx", (3, 224, 224), noise(folder / "noise", (3, 224, 224))


def mobilenet_v3(folder: Path) -> tuple[str, tuple[int, ...], str]:
    subprocess.run([sys.executable, "-c", MOBILENET, str(folder / "mobilenet" / "inference")], check=True, timeout=240)
    return "mobilenet", (3, 64, 64), noise(folder / "noise", (3, 64, 64))


def transformer_encoder(folder: Path) -> tuple[str, tuple[int, ...], str]:
    encoder(folder / "encoder.onnx", layers=2, width=128, heads=4, tokens=32)
    return "encoder.onnx", (32, 128), noise(folder / "noise", (32, 128))


NETWORKS = (pp_ocrv4_detection, resnet_50, mobilenet_v3, transformer_encoder)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_engines_in_every_precision_without_a_gpu(
    network: Callable[[Path], tuple[str, tuple[int, ...], str]], tmp_path: Path
) -> None:
    """The graph in its precision is judged in the engine's place, and everything says that the engine is not proved."""
    shop = Workshop(tmp_path)
    (tmp_path / "specs").mkdir()
    shop.registry.init()
    model, shape, calibration = network(tmp_path)
    sizes = ", ".join(map(str, shape))
    capabilities = CAPABILITIES if network is pp_ocrv4_detection else CAPABILITIES[1:2]
    named = ", ".join(f'"{capability}"' for capability in capabilities)
    spec = shop.spec(
        "net",
        model=f'path = "../{model}"\n[model.inputs.x]\nmin = [1, {sizes}]\nopt = [1, {sizes}]\nmax = [4, {sizes}]',
        precision=f'["fp32", "fp16", "int8"]\ntarget = "tensorrt-rtx"\ncompute_capabilities = [{named}]',
        calibration=calibration,
        gates="cosine = 0.5\nrelative_l2 = 0.9",
        more="[publish]\nunverified = true",
    )
    outcomes = shop.build(spec)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    sizes_of: dict[str, int] = {}
    for outcome in outcomes:
        assert outcome.report is not None
        assert outcome.report.proof == "emulated"
        assert (outcome.report.engine_latency, outcome.report.speedup, outcome.report.device_times) == (
            None,
            None,
            None,
        )
        manifest, folder = current(shop.registry, outcome.name)
        assert manifest.proof == "emulated"
        plans = sorted(file.name for file in folder.iterdir())
        assert plans == (["model.plan"] if len(capabilities) == 1 else sorted(PLANS))
        assert all((folder / plan).read_bytes().startswith(MAGIC) for plan in plans)
        sizes_of[outcome.precision] = (folder / plans[0]).stat().st_size
        with pytest.raises(EnvironmentMissing, match="there is no GPU"):
            api.load(shop.registry.root, outcome.name)
    assert sizes_of["fp16"] < sizes_of["fp32"]
    shutil.rmtree(shop.registry.root)
