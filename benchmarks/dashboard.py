"""What a redraw of the dashboard costs, from a new snapshot to the bytes for the terminal."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import replace
from typing import Any

from rich.console import Console

from trtd.status import PHASES, Condition, DaemonStatus, EngineStatus, Event, Snapshot, SubjectStatus
from trtd.ui.dashboard import View, draw
from trtd.ui.dashboard.paint import Painter

SUBJECTS = 5000
REDRAWS = 100
PERIOD_S = 0.25
SIZES = ((80, 24), (200, 60))
NOW = 1_764_000_000.0


def redraws() -> list[dict[str, Any]]:
    """Milliseconds to draw ``SUBJECTS`` subjects, one of which has changed each time, for terminals of two sizes."""
    rows = []
    for size in SIZES:
        console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor")
        painter, snapshot, times = Painter(console), _snapshot(), []
        for number in range(REDRAWS):
            subjects = list(snapshot.subjects)
            subjects[number] = replace(subjects[number], failures=number)
            snapshot = replace(snapshot, subjects=tuple(subjects))
            start = time.perf_counter()
            painter.paint(draw(snapshot, View(), size, NOW + number * PERIOD_S))
            times.append((time.perf_counter() - start) * 1e3)
        rows.append(
            {
                "terminal": f"{size[0]}×{size[1]}",
                "subjects": SUBJECTS,
                "median ms": round(statistics.median(times), 1),
                "max ms": round(max(times), 1),
            }
        )
    return rows


def _snapshot() -> Snapshot:
    daemon = DaemonStatus(4711, 1, "0.1.0", "/srv/registry", NOW - 3600, NOW - 12)
    names = [f"model-{number:05d}" for number in range(500, 0, -1)]
    events = tuple(Event(NOW - n, "published", f"{name}.toml", name, "", n) for n, name in enumerate(names))
    return Snapshot(daemon, True, tuple(_subject(number) for number in range(SUBJECTS)), {}, events)


def _subject(number: int) -> SubjectStatus:
    name, since = f"model-{number:05d}", NOW - 60 * (number % 997)
    engine = EngineStatus(f"{name}-int8", "int8", 2, 0.9931, 27.9, 1.89, 1_500_000, 4_700_000, since)
    phase = PHASES[number % len(PHASES)] if number % 4 == 0 else "ready"
    ready = Condition("Ready", phase == "ready", "Ready", f"{name}-int8@2", since)
    return SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, (ready,), (engine,))
