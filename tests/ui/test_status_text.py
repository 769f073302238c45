"""Plain status: what people and scripts read, with names and errors of any kind in it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from trtd.ui.plain import Column, cells, table, write_lines
from trtd.ui.status_text import MOST_PROBLEMS, snapshot_lines
from trtd.ui.status_words import age, moment, next_step, uptime
from trtd.ui.subject_text import subject_lines

NOW = 1_795_484_831.0
HOSTILE = "x\x1b[2J\n\u202e\r[red]\udcff"


def subject(name: str, phase: Phase = "ready", **more: Any) -> SubjectStatus:
    return SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, **more)


def ready(is_ready: bool, message: str = "", ago_s: float = 90.0) -> Condition:
    return Condition("Ready", is_ready, "Word", message, NOW - ago_s)


INT8 = EngineStatus("digits-int8", "int8", 3, 0.99931, 31.2, 2.1, 31_000, 98_000, NOW - 7300)
FP16 = EngineStatus("digits-fp16", "fp16", 2, 0.9999, 61.2, 1.3, 51_000, 98_000, NOW - 9300)
DIGITS = subject("digits", conditions=(ready(True, "all is well"),), engines=(INT8, FP16))
FULL = subject(
    "full",
    "backoff",
    failures=3,
    next_try_at=NOW + 41.5,
    problem=Problem("storage", "could not write: the disk is full", "free space", "/srv/x"),
)
DAEMON = DaemonStatus(
    pid=4242,
    started_ticks=1,
    version="0.1.0",
    registry="/srv/r",
    started_at=NOW - 12_000,
    last_scan_at=NOW - 4,
    scan_s=0.0312,
    scans=812,
    overflows=2,
    watches=(WatchStatus("specs", "events"), WatchStatus("/mnt/data", "polling", "NFS sends no events")),
    devices=(DeviceStatus("cpu", "CPU", 1, 2),),
    degraded=("metrics: the port is taken",),
)


def shown(*subjects: SubjectStatus, width: int | None = None, **more: Any) -> list[str]:
    more = dict[str, Any](daemon=DAEMON, alive=True) | more
    return list(snapshot_lines(Snapshot(subjects=subjects, **more), NOW, width))


def row(lines: list[str], name: str) -> list[str]:
    """Words of the table's row of a spec."""
    return next(line.split() for line in lines if line.startswith(name))


def test_the_daemon_tells_of_itself() -> None:
    """Nobody would see that a folder is polled, that something is broken, or that nothing runs."""
    text = "\n".join(shown(DIGITS))
    for words in (
        "process 4242, up 3 h 20 min, trtd 0.1.0",
        "812, the last 4 s ago in 31.2 ms; events were lost 2 times",
        "events of 1 folder",
        "polling /mnt/data: NFS sends no events",
        "degraded: metrics: the port is taken",
        "CPU, 1 of 2 builds",
        "specs:  1: 1 ready",
    ):
        assert words in text, words
    dead = "\n".join(shown(DIGITS, alive=False))
    assert "not running; what follows is from 4 s ago" in dead
    assert "1 of 2 builds" not in dead
    assert shown(daemon=None, alive=False) == [
        "daemon: none has run on this registry",
        "no specs: put one into specs/",
    ]


def test_a_row_tells_how_a_spec_stands() -> None:
    """The main table would not say what is live and how good it is."""
    lines = shown(DIGITS, FULL)
    head = next(line for line in lines if line.startswith("Spec"))
    assert head.split() == ["Spec", "Phase", "Engine", "Cosine", "Speedup", "Size", "When", "What"]
    figures = ["digits-int8@3", "0.99931", "2.10×", "98.0", "→", "31.0", "kB"]
    assert row(lines, "digits") == ["digits", "ready", *figures, "2", "h", "ago"]
    assert row(lines, "        ")[:2] == ["digits-fp16@2", "0.9999"]
    assert row(lines, "full")[-10:] == "in 41 s could not write: the disk is full".split()[-10:]


PHASE_ROWS: dict[Phase, tuple[dict[str, Any], str]] = {
    "building": ({"started_at": NOW - 42, "reasons": ("model changed",)}, "for 42 s model changed"),
    "queued": ({"queued_at": NOW - 130, "reasons": ("spec changed",)}, "for 2 min spec changed"),
    "settling": ({"conditions": (ready(False, "its files change"),)}, "for 1 min its files change"),
    "stale": ({"conditions": (ready(False, "x"),), "reasons": ("onnxruntime 1.1 -> 1.2",)}, "onnxruntime 1.1 -> 1.2"),
    "paused": ({"conditions": (ready(False, "paused by hand"),)}, "paused by hand"),
    "conflict": ({"problem": Problem("conflict", "also claimed by b.toml")}, "also claimed by b.toml"),
    "invalid": ({"problem": Problem("spec", "2 faults\na\nb")}, "2 faults"),
    "waiting": ({"next_try_at": NOW + 20, "problem": Problem("x", "a lock")}, "in 20 s a lock"),
    "stalled": ({"problem": Problem("gate", "cosine is 0.4")}, "cosine is 0.4"),
    "backoff": ({"next_try_at": NOW - 3, "problem": Problem("x", "crashed")}, "in 0 s crashed"),
    "ready": ({"engines": (replace(INT8, cosine=None, speedup=None, fp32_bytes=None),)}, "– – 31.0 kB 2 h ago"),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_says_why(phase: Phase) -> None:
    """People would see a word and have to guess what it waits for."""
    more, expected = PHASE_ROWS[phase]
    assert " ".join(row(shown(subject("it", phase, **more)), "it")).endswith(expected)


def test_a_running_build_tells_its_stage() -> None:
    """`building` for ten minutes would say nothing."""
    stage = StageStatus(
        "digits-int8", "calibrate", NOW - 12, 40, 128, "entropy", (("convert", 3.21, False), ("x", 0, True))
    )
    building = subject("digits", "building", started_at=NOW - 42)
    lines = shown(building, live={"digits.toml": stage})
    assert " ".join(row(lines, "digits")).endswith("digits-int8: calibrate 40/128, entropy")
    text = "\n".join(subject_lines(building, NOW, stage=stage))
    assert "building: digits-int8: calibrate 40/128, entropy, for 12 s\n          convert: 3.2 s\n" in text
    assert "x: from the store" in text


def test_failures_say_where_and_what_to_do() -> None:
    """Somebody would know that it failed, and nothing else."""
    lines = shown(FULL, DIGITS)
    at = lines.index("full (full.toml): backoff after 3 failures, next try in 41 s:")
    assert lines[at + 1 :] == ["  could not write: the disk is full", "  where: /srv/x", "  next:  free space"]
    faults = subject("bad", "invalid", problem=Problem("spec", "2 faults\nbad.toml:3: x\nbad.toml:4: y"))
    lines = shown(faults)
    assert lines[lines.index("  2 faults") + 1 :][:2] == ["  bad.toml:3: x", "  bad.toml:4: y"]
    assert lines[-1].startswith("  next:  mend specs/bad.toml")


@pytest.mark.parametrize("phase", ["stalled", "conflict", "invalid", "stale", "backoff"])
def test_what_needs_a_person_says_what_to_do(phase: Phase) -> None:
    """A problem without a hint would leave them without a next step."""
    assert next_step(subject("a b", phase))
    assert "'a b'" in next_step(subject("a b", phase)) or phase in ("conflict", "invalid")


def test_very_many_failures_do_not_drown_the_rest() -> None:
    """A full disk under 5,000 specs would print 20,000 lines of one message."""
    lines = shown(*(replace(FULL, name=f"s{n}", key=f"s{n}.toml") for n in range(MOST_PROBLEMS + 7)))
    assert sum(line == "  next:  free space" for line in lines) == MOST_PROBLEMS
    assert lines[-1].startswith("and 7 more")


def hostile() -> SubjectStatus:
    return SubjectStatus(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        "invalid",
        conditions=(Condition("Ready", None, HOSTILE, HOSTILE, float("nan")),),
        engines=(EngineStatus(HOSTILE, HOSTILE, 1, float("nan"), float("inf"), float("nan"), 0, 0, 1e300),),
        reasons=(HOSTILE,),
        problem=Problem(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        log=HOSTILE,
    )


def test_foreign_text_is_shown_literally_and_cannot_act() -> None:
    """A spec's name, or a compiler's message, would clear the screen or forge a line of its own."""
    bad = hostile()
    stage = StageStatus(HOSTILE, HOSTILE, 1.0, 1, 2, HOSTILE, ((HOSTILE, 1.0, False),))
    daemon = replace(
        DAEMON,
        version=HOSTILE,
        degraded=(HOSTILE,),
        watches=(WatchStatus(HOSTILE, "polling", HOSTILE),),
        devices=(DeviceStatus(HOSTILE, HOSTILE, 1, 1),),
    )
    event = Event(float("inf"), "failed", HOSTILE, HOSTILE, HOSTILE)
    lines = shown(bad, replace(bad, key="b", problem=None), daemon=daemon, live={"b": stage})
    lines += subject_lines(bad, NOW, stage=stage, events=[event], log=HOSTILE)
    text = "\n".join(lines)
    assert all(character.isprintable() for line in lines for character in line), repr(text)
    assert "x\\x1b[2J" in text
    assert "[red]" in text


def test_everything_about_one_spec() -> None:
    """`trtd status NAME` would be no more than a row of the table."""
    events = [Event(NOW - 5, "published", "digits.toml", "digits", "digits-int8@3: cosine 0.9993")]
    lines = list(subject_lines(replace(DIGITS, priority=7), NOW, events=events, log="/logs/x.log"))
    assert lines[:4] == [
        "digits (digits.toml): ready",
        "target:   onnxruntime-cpu",
        "priority: 7",
        "log:      /logs/x.log",
    ]
    int8 = "digits-int8 3 int8 0.99931 31.2 2.10× 98.0 → 31.0 kB 2 h ago"
    assert [" ".join(line.split()) for line in lines if line.startswith("digits-int8")] == [int8]
    assert "Ready yes Word 1 min all is well" in [" ".join(line.split()) for line in lines]
    assert lines[-1].endswith("published: digits-int8@3: cosine 0.9993")
    told = list(subject_lines(FULL, NOW))
    assert told[0] == "full (full.toml): backoff after 3 failures, next try in 41 s"
    assert "  next:  free space" in told


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 20])
def test_lines_of_the_table_fit_the_terminal(width: int) -> None:
    """Rows would wrap, and a table that wraps is no table."""
    wide = subject("模型" * 3, "stalled", problem=Problem("x", "a reason that is rather long " * 5))
    lines = shown(DIGITS, wide, width=width)
    rows = lines[lines.index("") + 1 :][:4]
    assert all(cells(line) <= width for line in rows)
    assert rows[0].startswith("Spec")
    assert "Phase" in rows[0] or width < 40
    assert ("digits-int8@3" in rows[1]) == (width >= 80)


def test_off_a_terminal_nothing_is_cut() -> None:
    """`trtd status | grep` would miss what stands at the end of a line."""
    reason = "long " * 200 + "end"
    assert any(line.endswith("end") for line in shown(subject("a", "stalled", problem=Problem("x", reason))))


@given(
    texts=st.lists(st.text(st.characters(categories=["L", "N", "M", "P", "S"]), max_size=9), min_size=1),
    width=st.integers(1, 30),
)
def test_tables_are_aligned_in_terminal_columns(texts: list[str], width: int) -> None:
    """Wide characters and combining ones would push the columns out of line."""
    columns = [Column("A", tuple(texts)), Column("B", tuple("|" for _ in texts))]
    lines = list(table(columns, None))
    assert len({cells(line.rpartition("|")[0]) for line in lines[1:]}) == 1
    assert all(cells(line) <= width for line in table(columns, width))


def test_without_unicode_signs_become_ascii() -> None:
    """On an old terminal or in a mail from cron, printing would fail, or show escapes for every sign of ours."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_lines(shown(DIGITS, subject("模", "queued")), stream)
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "2.10x" in text
    assert "98.0 -> 31.0 kB" in text
    assert "\\u6a21" in text


def test_times_in_words() -> None:
    """A clock that was set back, or a date of another age, would end the command."""
    assert [age(s) for s in (-5, 0, 59.9, 61, 7200, 90_000, 1e6, 1e9)] == "0 s,0 s,59 s,1 min,2 h,1 d,1 w,31 y".split(
        ","
    )
    assert age(float("nan")) == age(float("inf")) == uptime(float("nan")) == "?"
    assert [uptime(s) for s in (5, 700, 12_000, 300_000)] == ["5 s", "11 min", "3 h 20 min", "3 d 11 h"]
    assert moment(float("nan")) == moment(1e300) == "?"
