"""``trtd status`` as plain lines: for pipes, logs, and terminals that nobody watches.

Needs no library, so that it starts in a blink. Foreign text is shown literally and cannot act on the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from trtd.status import PHASES, DaemonStatus, EngineStatus, Snapshot, StageStatus, SubjectStatus
from trtd.ui import figures
from trtd.ui.literal import visible
from trtd.ui.plain import Column, table
from trtd.ui.status_words import age, next_step, one_line, uptime

MOST_PROBLEMS = 50
NONE = figures.ABSENT


def snapshot_lines(snapshot: Snapshot, now: float, width: int | None = None) -> Iterator[str]:
    """The daemon, a table of all specs, and what failed.

    Args:
        snapshot: what to show.
        now: seconds since the epoch.
        width: columns of the terminal; ``None``: nothing is cut or left out.
    """
    yield from daemon_lines(snapshot, now)
    if not snapshot.subjects:
        yield "no specs: put one into specs/"
        return
    yield ""
    yield from table(_subject_columns(snapshot, now), width)
    yield from _problems(snapshot, now)


def daemon_lines(snapshot: Snapshot, now: float) -> Iterator[str]:
    """Whether the daemon runs, what it watches and builds, and what does not work as it should."""
    daemon = snapshot.daemon
    if daemon is None:
        yield "daemon: none has run on this registry"
        return
    if snapshot.alive:
        yield visible(f"daemon: process {daemon.pid}, up {uptime(now - daemon.started_at)}, trtd {daemon.version}")
    else:
        since = daemon.last_scan_at or daemon.started_at
        yield f"daemon: not running; what follows is from {age(now - since)} ago. trtd run starts it"
    if daemon.last_scan_at is not None:
        times = "once" if daemon.overflows == 1 else f"{daemon.overflows} times"
        missed = f"; events were lost {times}" if daemon.overflows else ""
        ago = f"{age(now - daemon.last_scan_at)} ago"
        yield f"scans:  {daemon.scans}, the last {ago} in {figures.millis(daemon.scan_s * 1000)} ms{missed}"
    yield from _watching(daemon)
    counts = Counter(subject.phase for subject in snapshot.subjects)
    known = [f"{counts.pop(phase)} {phase}" for phase in PHASES if phase in counts]
    known += [visible(f"{count} {phase}") for phase, count in counts.items()]  # of a later version of trtd
    yield f"specs:  {len(snapshot.subjects)}{': ' if known else ''}{', '.join(known)}"
    if snapshot.alive:
        for device in daemon.devices:
            yield visible(f"device: {device.name or device.id}, {device.running} of {device.slots} builds")
    for text in daemon.degraded:
        yield visible(f"degraded: {one_line(text)}")


def _watching(daemon: DaemonStatus) -> Iterator[str]:
    polled = [watch for watch in daemon.watches if watch.mode == "polling"]
    if len(polled) < len(daemon.watches):
        yield f"watch:  events of {_count(len(daemon.watches) - len(polled), 'folder')}"
    for watch in polled:
        yield visible(f"watch:  polling {watch.folder}" + (f": {one_line(watch.reason)}" if watch.reason else ""))


# -------------------------------------------------------------------------------------------------------- all specs


def _subject_columns(snapshot: Snapshot, now: float) -> list[Column]:
    """One row for each engine; what is about the spec as a whole stands in its first row."""
    live = snapshot.live or {}
    rows = [
        (subject, engine, not number)
        for subject in snapshot.subjects
        for number, engine in enumerate(subject.engines or (None,))
    ]

    def of_subject(title: str, text: Callable[[SubjectStatus], str], rank: int = 0) -> Column:
        return Column(title, tuple(visible(text(subject)) if first else "" for subject, _, first in rows), rank)

    engines = [engine for _, engine, _ in rows]
    return [
        of_subject("Spec", lambda subject: subject.name),
        of_subject("Phase", lambda subject: subject.phase),
        engine_column("Engine", engines, lambda engine: f"{engine.name}@{engine.version}", 2, right=False),
        engine_column("Cosine", engines, cosine, 6),
        engine_column("Speedup", engines, speedup, 4),
        engine_column("Size", engines, size, 5),
        of_subject("When", lambda subject: when(subject, now), 3),
        of_subject("What", lambda subject: _what(subject, live.get(subject.key))),
    ]


def engine_column(
    title: str,
    engines: Sequence[EngineStatus | None],
    text: Callable[[EngineStatus], str],
    rank: int = 0,
    *,
    right: bool = True,
) -> Column:
    return Column(
        title, tuple(NONE if e is None or e.version is None else visible(text(e)) for e in engines), rank, right
    )


def cosine(engine: EngineStatus) -> str:
    return NONE if engine.cosine is None else figures.cosine(engine.cosine)


def sqnr(engine: EngineStatus) -> str:
    return NONE if engine.sqnr_db is None else figures.decibels(engine.sqnr_db)


def speedup(engine: EngineStatus) -> str:
    return NONE if engine.speedup is None else figures.ratio(engine.speedup)


def size(engine: EngineStatus) -> str:
    if engine.engine_bytes is None:
        return NONE
    if engine.fp32_bytes is None:
        return figures.byte_size(engine.engine_bytes)
    return figures.byte_change(engine.fp32_bytes, engine.engine_bytes)


def when(subject: SubjectStatus, now: float) -> str:
    """``in 42 s`` until the next try, ``for 12 s`` that it is built or waits, ``3 h ago`` it was published."""
    if subject.next_try_at is not None:
        return f"in {age(subject.next_try_at - now)}"
    began = subject.started_at if subject.started_at is not None else subject.queued_at
    if began is not None:
        return f"for {age(now - began)}"
    published = max((e.published_at for e in subject.engines if e.published_at is not None), default=None)
    if subject.phase == "ready" and published is not None:
        return f"{age(now - published)} ago"
    ready = next((c for c in subject.conditions if c.type == "Ready"), None)
    return f"for {age(now - ready.since)}" if ready is not None else ""


def _what(subject: SubjectStatus, stage: StageStatus | None) -> str:
    if stage is not None:
        return stage_text(stage)
    if subject.problem is not None:
        return one_line(subject.problem.message.split("\n")[0])  # all of it stands below the table
    if subject.reasons and subject.phase not in ("ready", "paused"):
        return one_line("; ".join(subject.reasons))
    ready = next((c for c in subject.conditions if c.type == "Ready" and c.status is not True), None)
    return one_line(ready.message) if ready is not None else ""


def stage_text(stage: StageStatus) -> str:
    """``digits-int8: calibrate 40/128, 12 s left``: where a build is."""
    done = f" {stage.done}/{stage.total}" if stage.total else f" {stage.done}" if stage.done else ""
    return f"{stage.engine}: {stage.stage}{done}" + (f", {one_line(stage.note)}" if stage.note else "")


def _problems(snapshot: Snapshot, now: float) -> Iterator[str]:
    failed = [subject for subject in snapshot.subjects if subject.problem is not None]
    for subject in failed[:MOST_PROBLEMS]:
        yield ""
        yield f"{headline(subject, now)}:"
        yield from problem_lines(subject)
    if len(failed) > MOST_PROBLEMS:
        yield ""
        yield f"and {len(failed) - MOST_PROBLEMS} more: trtd status NAME, or trtd status --json"


def headline(subject: SubjectStatus, now: float) -> str:
    """``ppocr-det (det.toml): backoff after 3 failures, next try in 42 s``."""
    tries = f" after {_count(subject.failures, 'failure')}" if subject.failures > 1 else ""
    again = f", next try in {age(subject.next_try_at - now)}" if subject.next_try_at is not None else ""
    return visible(f"{subject.name} ({subject.key}): {subject.phase}{tries}{again}")


def problem_lines(subject: SubjectStatus) -> Iterator[str]:
    """What is wrong with one spec, where, and what to do about it."""
    problem = subject.problem
    if problem is None:
        return
    for line in visible(problem.message, lines=True).split("\n"):
        yield f"  {line}"
    if problem.where:
        yield visible(f"  where: {problem.where}")
    if step := next_step(subject):
        for number, line in enumerate(visible(step, lines=True).split("\n")):
            yield f"         {line}" if number else f"  next:  {line}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
