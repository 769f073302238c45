"""A small real conv net, images for it, specs and a registry, in one folder: everything that a build starts from."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from trtd.errors import RegistryBusy
from trtd.pipeline.build import Outcome, Request
from trtd.pipeline.build import build as build_engines
from trtd.pipeline.progress import ProgressEvent
from trtd.registry.layout import Registry
from trtd.store.device_lock import occupy

SPECS = Path(__file__).parents[1] / "specs"
IMAGES = 24


@dataclass
class Recorder:
    """Listens to the pipeline and remembers, without subjects: ``["convert cached", "build started", ...]``."""

    heard: list[str] = field(default_factory=list)
    events: list[ProgressEvent] = field(default_factory=list)

    def stage_started(self, subject: str, stage: str) -> None:
        self.heard.append(f"{stage} started")

    def stage_waiting(self, subject: str, stage: str, reason: str) -> None:
        self.heard.append(f"{stage} waits, {reason}")

    def progress(self, subject: str, event: ProgressEvent) -> None:
        self.events.append(event)

    def stage_finished(self, subject: str, stage: str, seconds: float, cached: bool = False) -> None:
        self.heard.append(f"{stage} {'cached' if cached else 'finished'}")

    def stage_failed(self, subject: str, stage: str, seconds: float) -> None:
        self.heard.append(f"{stage} failed")

    @property
    def ran(self) -> list[str]:
        """Stages for which a process was started."""
        return [line.split()[0] for line in self.heard if line.endswith("started")]


@dataclass(frozen=True)
class Workshop:
    """``models/tiny.onnx``, ``images/``, ``specs/`` and ``registry/`` in ``folder``."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "models" / "tiny.onnx"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def registry(self) -> Registry:
        return Registry(self.folder / "registry")

    def furnish(self) -> None:
        """Make model, images and an empty registry."""
        for folder in (self.model.parent, self.images, self.folder / "specs"):
            folder.mkdir(parents=True)
        write_model(self.model)
        for number in range(IMAGES):
            write_image(self.images / f"{number:02d}.png", number)
        self.registry.init()

    def spec(
        self,
        name: str = "tiny",
        *,
        head: str = "",
        model: str = 'path = "../models/tiny.onnx"',
        precision: str = '"int8"',
        calibration: str = 'data = "../images"',
        verify: str = "",
        gates: str = "",
        more: str = "",
    ) -> Path:
        """Write ``specs/NAME.toml``. Latency is measured shortly and judged leniently: these tests run anywhere."""
        file = self.folder / "specs" / f"{name}.toml"
        lines = [head, "[model]", model, "[engine]", f"precision = {precision}"]
        lines += ["[calibration]", calibration] if calibration else []
        lines += ["[verify]", "latency_runs = 5", verify, "[verify.gates]", "min_speedup = 0.001", gates, more]
        file.write_text("\n".join(lines) + "\n")
        return file

    def build(self, spec: Path, recorder: Recorder | None = None, *, force: bool = False) -> list[Outcome]:
        return build_engines(spec, Request(self.registry, threads=1, force=force, listener=recorder or Recorder()))


def write_model(path: Path, seed: int = 0, doc: str = "") -> None:
    """x [N, 3, 8, 8] -> two convolutions -> scores [N, 5]; one class is far ahead on every input."""
    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * 0.4).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], "classify"),
    ]
    bias = numpy_helper.from_array(np.array([0, 1, 2, 9, 3], np.float32), "b3")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [weights("w1", 8, 3, 3, 3), weights("w2", 8, 8, 3, 3), weights("w3", 8, 5), bias],
        doc_string=doc,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_image(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(1000 + seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def taken(gpu: str = "GPU-stand-in-0") -> AbstractContextManager[None]:
    """Has a GPU that nobody else has."""

    def refuse(busy: RegistryBusy) -> None:
        raise busy

    return occupy([gpu], "test", refuse)


def prepare_ppocr_det(folder: Path) -> None:
    """Put PP-OCRv4 detection, as Paddle 2 saved it, into ``model/`` and twelve ``pages/`` beside it."""
    command = [sys.executable, str(SPECS / "ppocr-det" / "prepare.py"), "--pages", "12", "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
