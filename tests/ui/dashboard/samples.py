"""Snapshots for the dashboard's tests: an ordinary one, a large one, one with hostile names."""

from __future__ import annotations

from dataclasses import replace

from rich.cells import cell_len

from trtd.status import (
    PHASES,
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
from trtd.ui.dashboard import Picture

NOW = 1_764_000_000.0
SIZES = ((80, 24), (100, 30), (120, 40), (200, 60))
HOSTILE = (
    "[red]x[/red]",
    "\x1b[2J\x1b[31mgone",
    "a\nb\r\tc",
    "\u202egnp.txt",
    "אבגדה",
    "漢字の名前",
    "e\u0301\u0301\u0301le\u0300ve",
    "👩\u200d🚀🚀❤\ufe0f",
    "\x00\x07\x9b31m",
    "\udcff\udcfe",
    "x" * 255,
    "界" * 120,
    "",
    " ",
)


def subject(name: str, phase: Phase = "ready", *, minutes: float = 60.0, **more: object) -> SubjectStatus:
    """A subject in a phase since ``minutes``, with one published INT8 engine unless told otherwise."""
    since = NOW - minutes * 60
    engine = EngineStatus(f"{name}-int8", "int8", 2, 0.9931, 27.9, 1.89, 1_500_000, 4_700_000, since - 3600)
    conditions = (
        Condition("SpecValid", phase != "invalid", "Valid", "the spec has no fault", since),
        Condition("Ready", phase == "ready", "Ready", f"{name}-int8@2", since),
    )
    made = SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, conditions, (engine,))
    return replace(made, **more)  # type: ignore[arg-type]


def problem(text: str = "cosine of out is 0.9632, must be >= 0.99", hint: str = "try method = mse") -> Problem:
    return Problem("gate", text, hint, "spec.toml:3")


def daemon(**more: object) -> DaemonStatus:
    made = DaemonStatus(
        4711, 1, "0.1.0", "/srv/registry", NOW - 280_000, NOW - 12,
        watches=(WatchStatus("/srv/registry/specs", "events"),),
        devices=(DeviceStatus("cpu", "EPYC", 1, 2), DeviceStatus("GPU-1234", "NVIDIA L4", 0, 1)),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def event(text: str, kind: str = "published", name: str = "digits", ago_s: float = 60, number: int = 0) -> Event:
    return Event(NOW - ago_s, kind, f"{name}.toml" if name else "", name, text, number)  # type: ignore[arg-type]


def make_snapshot(*subjects: SubjectStatus, live: dict[str, StageStatus] | None = None, **more: object) -> Snapshot:
    """As the state database tells it: ordered by name, then key."""
    ordered = tuple(sorted(subjects, key=lambda s: (s.name, s.key)))
    made = Snapshot(daemon(), True, ordered, live or {}, (event("digits-int8@2: cosine 0.9931"),))
    return replace(made, **more)  # type: ignore[arg-type]


def ordinary() -> Snapshot:
    """One subject in each phase, and some that are ready."""
    subjects = [
        subject("digits"),
        subject("ppocr-det"),
        subject("yolox", "building", minutes=2, started_at=NOW - 96, reasons=("the model changed",)),
        subject("segformer", "queued", queued_at=NOW - 44, priority=10, reasons=("the spec changed",)),
        subject("direction", "queued", queued_at=NOW - 66, reasons=("a new spec",)),
        subject("barcode", "settling", engines=()),
        subject(
            "clip", "backoff", problem=problem("calibrate ran out of memory", ""), failures=2, next_try_at=NOW + 17
        ),
        subject("lock", "waiting", problem=problem("the GPU is busy", ""), next_try_at=NOW + 5),
        subject("ppocr-rec", "stalled", minutes=12, problem=problem(), failures=1),
        subject(
            "slanet", "invalid", problem=Problem("spec", "1 fault in the spec\nslanet.toml:14: methd: no such key")
        ),
        subject(
            "twin", "conflict", problem=Problem("conflict", 'the name "twin" also claimed by other.toml', "rename")
        ),
        subject("resnet18", "stale", reasons=("onnxruntime 1.23.2 → 1.24.0",)),
        subject("old", "paused"),
    ]
    finished = (("convert", 4.2, False), ("calibrate", 0.0, True))
    stage = StageStatus("yolox-int8", "verify", NOW - 20, 100, 200, "fidelity", finished)
    return make_snapshot(*subjects, live={"yolox.toml": stage})


def many(count: int = 5000) -> Snapshot:
    """Subjects in all phases, most of them ready."""
    phases: list[Phase] = [*PHASES, *(["ready"] * 20)]  # type: ignore[list-item]
    subjects = [
        subject(
            f"model-{number:05d}",
            phases[number % len(phases)],
            minutes=number % 997,
            priority=number % 3,
            problem=problem() if phases[number % len(phases)] in ("stalled", "backoff", "invalid") else None,
        )
        for number in range(count)
    ]
    return make_snapshot(*subjects, events=tuple(event(f"text {n}", ago_s=n, number=n) for n in range(500, 0, -1)))


def hostile() -> Snapshot:
    """Every text that others write is hostile, in every phase."""
    subjects, live, events = [], {}, []
    for number, text in enumerate(HOSTILE):
        phase = PHASES[number % len(PHASES)]
        engine = EngineStatus(text, text, 1, float("nan"), float("inf"), float("nan"), 10**15, 1, NOW)
        conditions = (Condition("Ready", None, text, text, NOW - number),)
        subjects.append(
            SubjectStatus(
                f"{number} {text}", text, text, phase, conditions, (engine, engine), 10**9, 7, NOW + 1e6, NOW - 1e6,
                NOW + number, (text, text), Problem(text, f"{text}\n{text}", text, text), text,
            )
        )  # fmt: skip
        live[f"{number} {text}"] = StageStatus(text, text, NOW, 5, 3, text, ((text, 1e9, False),))
        events.append(Event(NOW, "failed", f"{number} {text}", text, f"{text}\n{text}", number))
    told = daemon(
        registry=HOSTILE[1], version=HOSTILE[0], degraded=HOSTILE,
        watches=tuple(WatchStatus(text, "polling", text) for text in HOSTILE),
        devices=tuple(DeviceStatus(text, text, 3, 2) for text in HOSTILE),
    )  # fmt: skip
    return make_snapshot(*subjects, live=live, daemon=told, events=tuple(events))


def plain(picture: Picture) -> list[str]:
    """The lines of a picture as text."""
    return [line.plain for line in picture.lines]


def shown(picture: Picture) -> str:
    return "\n".join(plain(picture))


def is_exact(picture: Picture, size: tuple[int, int]) -> bool:
    """Whether the picture is of this size to the column."""
    return len(picture.lines) == size[1] and all(cell_len(line.plain) == size[0] for line in picture.lines)
