"""The setting of the PP-OCRv4 benchmarks: model, pages, registry, and how a job is run and measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtd.calibrate.split import set_digest
from trtd.document import Document
from trtd.pipeline.build import Request
from trtd.pipeline.contracts import CalibrateInputs, ConvertInputs, ReferenceInputs
from trtd.pipeline.feed import Feed
from trtd.pipeline.intake import Intake, take_in
from trtd.pipeline.job import Job
from trtd.pipeline.launch import launch
from trtd.pipeline.listener import Silent
from trtd.pipeline.outcome import Result
from trtd.pipeline.planning import make_plans
from trtd.pipeline.stage_runner import StageRunner
from trtd.registry.layout import Registry
from trtd.store.staging import staging_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = 288
CACHE = ROOT / "benchmarks" / ".cache"
SPEC = """\
name = "bench-det"
[model]
path = "ppocr-det/model"
[model.inputs.x]
min = [1, 3, 480, 480]
opt = [1, 3, 480, 480]
max = [1, 3, 480, 480]
[calibration]
data = "ppocr-det/pages/*.png"
samples = 256
method = "{method}"
[calibration.preprocess]
resize = [480, 480]
channels = "bgr"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[verify]
latency_runs = 200
[verify.gates]
cosine = 0.5
relative_l2 = 0.9
min_speedup = 0.1
"""


@dataclass(frozen=True)
class Setting:
    """A registry, a spec over 288 pages, and its model converted."""

    registry: Registry
    spec_file: Path
    intake: Intake
    converted: Path
    threads: int

    def measure(self, call: str, inputs: dict[str, Any]) -> Result:
        """Run a function of :mod:`benchmarks.jobs` in a process of its own."""
        with staging_folder(self.registry.staging, "bench") as scratch:
            out = scratch / "out"
            out.mkdir()
            job = Job(
                stage=call,
                call=f"benchmarks.jobs:{call}",
                inputs=inputs,
                out=out,
                deadline_s=3600,
                threads=self.threads,
            )
            return launch(job, log=CACHE / f"{call}.log")

    def calibration_inputs(self, pages: int) -> dict[str, Any]:
        feed = self.intake.data.calibration
        assert feed is not None
        return _json(
            CalibrateInputs(
                converted=self.converted,
                target="onnxruntime-cpu",
                device=self.intake.fingerprint,
                activation="auto",
                calibration=_first(feed, pages),
                given=None,
                batch=1,
                threads=self.threads,
            )
        )

    def reference_inputs(self) -> dict[str, Any]:
        intake = self.intake
        return _json(
            ReferenceInputs(source=intake.source, facts=intake.facts, heldout=intake.data.heldout, threads=self.threads)
        )


def prepare(threads: int) -> Setting:
    """Fetch the model, draw the pages, convert once."""
    CACHE.mkdir(exist_ok=True)
    script = ROOT / "specs" / "ppocr-det" / "prepare.py"
    if len(list((CACHE / "ppocr-det" / "pages").glob("*.png"))) != PAGES:
        command = [sys.executable, str(script), "--pages", str(PAGES), "--out", str(CACHE / "ppocr-det")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    registry = Registry(CACHE / "registry")
    registry.init()
    spec_file = write_spec("entropy")
    (intake,) = take_in(spec_file, registry=registry)
    runner = StageRunner(
        plan=make_plans(intake)[0],
        registry=registry,
        limits=intake.spec.build,
        threads=threads,
        log=CACHE / "convert.log",
        listener=Silent(),
    )
    converted = runner.run("convert", ConvertInputs(source=intake.source, facts=intake.facts))
    return Setting(registry, spec_file, intake, converted, threads)


def write_spec(method: str) -> Path:
    """The benchmark's spec with one calibration method."""
    path = CACHE / f"bench-det-{method}.toml"
    path.write_text(SPEC.format(method=method))
    return path


def request(setting: Setting) -> Request:
    return Request(setting.registry, threads=setting.threads, force=True)


def _first(feed: Feed, count: int) -> Feed:
    if len(feed.items) < count:
        raise SystemExit(f"only {len(feed.items)} of {count} calibration pages")
    first = feed.model_copy(update={"items": feed.items[:count]})
    return first.model_copy(update={"digest": set_digest(first.open().contents(first.refs()).values())})


def _json(document: Document) -> dict[str, Any]:
    return document.model_dump(mode="json")
