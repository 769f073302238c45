"""``trtd status NAME`` as plain lines: everything about one spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trtd.status import Condition, EngineStatus, Event, StageStatus, SubjectStatus
from trtd.ui.literal import visible
from trtd.ui.plain import Column, table
from trtd.ui.status_text import NONE, cosine, engine_column, headline, problem_lines, size, speedup, sqnr, stage_text
from trtd.ui.status_words import age, moment, one_line


def subject_lines(
    subject: SubjectStatus,
    now: float,
    *,
    stage: StageStatus | None = None,
    events: Sequence[Event] = (),
    log: str = "",
    width: int | None = None,
) -> Iterator[str]:
    """Everything about one spec.

    Args:
        subject: what to show.
        now: seconds since the epoch.
        stage: where its build is, if it is being built.
        events: of this spec, newest last.
        log: path of the log that `trtd logs` would show; empty if there is none.
        width: columns of the terminal; ``None``: nothing is cut or left out.
    """
    yield headline(subject, now)
    if subject.target:
        yield visible(f"target:   {subject.target}")
    if subject.priority:
        yield f"priority: {subject.priority}"
    for reason in subject.reasons:
        yield visible(f"reason:   {one_line(reason)}")
    if stage is not None:
        yield visible(f"building: {stage_text(stage)}, for {age(now - stage.started_at)}")
        for name, took_s, cached in stage.finished:
            yield visible(f"          {name}: {'from the store' if cached else f'{took_s:.1f} s'}")
    if log:
        yield visible(f"log:      {log}")
    if subject.engines:
        yield ""
        yield from table(_engine_columns(subject.engines, now), width)
    if subject.problem is not None:
        yield ""
        yield from problem_lines(subject)
    if subject.conditions:
        yield ""
        yield from table(_condition_columns(subject.conditions, now), width)
    if events:
        yield ""
        for event in events:
            yield visible(f"{moment(event.at)}  {event.kind}: {one_line(event.text)}")


def _engine_columns(engines: Sequence[EngineStatus], now: float) -> list[Column]:
    return [
        Column("Engine", tuple(visible(engine.name) for engine in engines)),
        Column(
            "Live", tuple(NONE if engine.version is None else str(engine.version) for engine in engines), right=True
        ),
        Column("Precision", tuple(visible(engine.precision) for engine in engines), 4),
        engine_column("Cosine", engines, cosine, 5),
        engine_column("SQNR dB", engines, sqnr, 2),
        engine_column("Speedup", engines, speedup, 1),
        engine_column("Size", engines, size, 3),
        engine_column(
            "Published", engines, lambda e: f"{age(now - e.published_at)} ago" if e.published_at else NONE, 6
        ),
    ]


def _condition_columns(conditions: Sequence[Condition], now: float) -> list[Column]:
    words = {True: "yes", False: "no", None: "unknown"}
    return [
        Column("Condition", tuple(visible(condition.type) for condition in conditions)),
        Column("", tuple(words[condition.status] for condition in conditions)),
        Column("Reason", tuple(visible(condition.reason) for condition in conditions), 2),
        Column("For", tuple(age(now - condition.since) for condition in conditions), 1),
        Column("Message", tuple(visible(one_line(condition.message)) for condition in conditions)),
    ]
