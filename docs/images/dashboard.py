"""Makes ``dashboard.svg``, the picture of ``trtd status --watch``: ``python docs/images/dashboard.py``."""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from trtd.status import (
    Condition,
    DaemonStatus,
    DeviceStatus,
    EngineStatus,
    Event,
    Phase,
    Problem,
    Snapshot,
    StageStatus,
    SubjectStatus,
    WatchStatus,
)
from trtd.ui.dashboard import Context, View, draw

NOW = 1_764_000_000.0
SIZE = (160, 44)
THEME = TerminalTheme(
    (17, 20, 28),
    (201, 209, 217),
    [(33, 38, 48), (248, 113, 113), (110, 201, 122), (229, 192, 94),
     (97, 157, 240), (196, 134, 230), (86, 195, 208), (201, 209, 217)],
    [(90, 99, 115), (255, 140, 140), (140, 220, 150), (245, 210, 120),
     (130, 180, 250), (215, 160, 245), (120, 215, 225), (240, 244, 248)],
)  # fmt: skip

# name, precision, cosine, SQNR dB, speedup, fp32 kB, engine kB, hours since it was published
_READY = (
    ("digits", "int8", 0.997048, 43.1, 3.69, 528, 148, 71.0),
    ("doc-orientation", "int8", 0.99812, 34.8, 2.44, 6_940, 1_920, 52.0),
    ("doc-unwarp", "fp16", 0.999991, 71.2, 1.02, 30_300, 15_200, 340.0),
    ("face-landmarks", "int8", 0.99961, 38.2, 2.87, 4_120, 1_110, 9.3),
    ("layout-picodet", "int8", 0.99274, 29.6, 2.31, 7_410, 2_060, 26.0),
    ("mobilenet-v3", "int8", 0.99127, 26.4, 2.05, 21_900, 5_900, 3.4),
    ("plate-rec", "int8", 0.99903, 36.0, 2.71, 9_880, 2_630, 140.0),
    ("ppocr-cls", "int8", 0.999512, 37.7, 2.93, 1_440, 412, 0.21),
    ("ppocr-det", "int8", 0.993058, 27.9, 1.89, 4_700, 1_500, 0.35),
    ("resnet50", "int8", 0.998264, 33.5, 3.12, 102_100, 25_800, 200.0),
    ("seal-det", "int8", 0.99433, 28.8, 1.97, 4_690, 1_490, 76.0),
    ("vehicle-type", "int8", 0.99784, 32.1, 2.66, 12_300, 3_310, 410.0),
)


def _engine(name: str, precision: str, version: int, *figures: float) -> EngineStatus:
    cosine, sqnr, speedup, fp32, engine, hours = figures
    return EngineStatus(
        f"{name}-{precision}", precision, version, cosine, sqnr, speedup, int(engine * 1000), int(fp32 * 1000),
        NOW - hours * 3600,
    )  # fmt: skip


def _subject(name: str, phase: Phase, minutes: float, **more: object) -> SubjectStatus:
    since = NOW - minutes * 60
    conditions = (Condition("Ready", phase == "ready", "Ready" if phase == "ready" else phase.title(), "", since),)
    subject = SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, conditions)
    return replace(subject, **more)  # type: ignore[arg-type]


def subjects() -> list[SubjectStatus]:
    """A registry on an ordinary afternoon."""
    found = [
        _subject(name, "ready", hours * 60, engines=(_engine(name, precision, 1 + index % 4, *figures),))
        for index, (name, precision, *figures) in enumerate(_READY)
        for hours in figures[-1:]
    ]
    gate = Problem(
        "gate",
        "not published: cosine of softmax_2.tmp_0 is 0.9632, must be >= 0.99",
        'keep the operator behind the worst tensor "p2o.Add.47" (15.1 dB) in FP32: [quantization] exclude = ["Add.47"]',
    )
    memory = Problem("worker-out-of-memory", "calibrate used more than 8.0 GB and was ended")
    typo = Problem("spec", "[calibration] methd: no such key", 'did you mean "method"?', "table-slanet.toml:14")
    tools = ("onnxruntime 1.23.2 → 1.24.0",)
    rec = _engine("ppocr-rec", "int8", 3, 0.99162, 25.9, 2.22, 10_900, 2_960, 700)
    found += [
        _subject("ppocr-rec", "stalled", 12, engines=(rec,), problem=gate, failures=1),
        _subject("table-slanet", "invalid", 38, problem=typo),
        _subject("resnet18", "stale", 3, reasons=tools,
                 engines=(_engine("resnet18", "int8", 2, 0.9987, 34.4, 2.98, 46_800, 11_900, 1100),)),
        _subject("yolox-s", "building", 1.6, started_at=NOW - 96, reasons=("the model changed",),
                 engines=(_engine("yolox-s", "int8", 5, 0.98931, 24.6, 2.08, 35_900, 9_300, 160),
                          _engine("yolox-s", "fp16", 5, 0.99999, 68.0, 1.03, 35_900, 18_000, 160))),
        _subject("formula-net", "building", 0.4, started_at=NOW - 23, reasons=("a new spec",),
                 engines=(EngineStatus("formula-net-int8", "int8"),)),
        _subject("segformer-b0", "queued", 0.7, queued_at=NOW - 44, priority=10, reasons=("the spec changed",),
                 engines=(EngineStatus("segformer-b0-int8", "int8"),)),
        _subject("text-direction", "queued", 1.1, queued_at=NOW - 66, reasons=("a new spec",),
                 engines=(EngineStatus("text-direction-int8", "int8"),)),
        _subject("barcode-det", "settling", 0.1, engines=(EngineStatus("barcode-det-int8", "int8"),)),
        _subject("clip-vision", "backoff", 2, problem=memory, failures=2, next_try_at=NOW + 17,
                 engines=(EngineStatus("clip-vision-int8", "int8"),)),
        _subject("old-detector", "paused", 9000,
                 engines=(_engine("old-detector", "int8", 7, 0.9958, 28.1, 1.66, 9_100, 2_700, 3000),)),
    ]  # fmt: skip
    return sorted(found, key=lambda subject: subject.name)


def events() -> tuple[Event, ...]:
    typo = 'table-slanet.toml:14: [calibration] methd: no such key → did you mean "method"?'
    memory = "calibrate used more than 8.0 GB and was ended → failure 2 in a row, next try in 135 s"
    told = (
        (2400, "published", "ppocr-det", "ppocr-det-int8@1: cosine 0.993058, SQNR 27.9 dB, 1.89× FP32, 4.7 → 1.5 MB"),
        (2280, "failed", "table-slanet", typo),
        (1300, "started", "ppocr-cls", "the spec changed"),
        (756, "published", "ppocr-cls", "ppocr-cls-int8@4: cosine 0.999512, SQNR 37.7 dB, 2.93× FP32, 1.4 → 0.4 MB"),
        (720, "failed", "ppocr-rec", "not published: cosine of softmax_2.tmp_0 is 0.9632, must be >= 0.99"),
        (180, "stale", "resnet18", "onnxruntime 1.23.2 → 1.24.0 → approve it: trtd retry resnet18"),
        (118, "failed", "clip-vision", memory),
        (96, "started", "yolox-s", "the model changed"),
        (66, "changed", "text-direction", "a new spec"),
        (44, "changed", "segformer-b0", "the spec changed"),
        (23, "started", "formula-net", "a new spec"),
    )  # fmt: skip
    return tuple(
        Event(NOW - ago, kind, f"{name}.toml", name, text, number)  # type: ignore[arg-type]
        for number, (ago, kind, name, text) in enumerate(told)
    )


def snapshot() -> Snapshot:
    daemon = DaemonStatus(
        4711, 1, "0.1.0", "/srv/registry", NOW - 280_000, NOW - 12, 0.04, 9_300, 0,
        watches=(WatchStatus("/srv/registry/specs", "events"), WatchStatus("/srv/registry/models", "events")),
        devices=(
            DeviceStatus("cpu", "AMD EPYC 7543P 32-Core Processor", 1, 2),
            DeviceStatus("GPU-9f1c3a52-8d0e-4a6b-b7c1-0e5f2d9a7c41", "NVIDIA L4", 1, 1),
        ),
    )  # fmt: skip
    done = (("convert", 6.2, False), ("reference", 31.0, False), ("calibrate", 0.0, True))
    verify = StageStatus("yolox-s-int8", "verify", NOW - 21, 138, 240, "fidelity", (*done, ("build", 9.1, False)))
    calibrate = StageStatus(
        "formula-net-int8", "calibrate", NOW - 9, 88, 256, "412 tensors", (("convert", 12.4, False),)
    )
    live = {"yolox-s.toml": verify, "formula-net.toml": calibrate}
    return Snapshot(daemon, True, tuple(subjects()), live, events())


def export(file: Path, size: tuple[int, int] = SIZE, view: View | None = None, context: Context | None = None) -> None:
    """The picture as SVG."""
    console = Console(
        width=size[0], height=size[1], file=io.StringIO(), record=True, force_terminal=True, color_system="truecolor"
    )
    console.print(draw(snapshot(), view or View(), size, NOW, context or Context()), end="")
    console.save_svg(str(file), title="trtd status --watch", theme=THEME)


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    export(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg"))
