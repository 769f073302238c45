"""A build that runs: its stage, how far that is, how long it took and will take."""

from __future__ import annotations

from rich.text import Text

from trtd.status import StageStatus, SubjectStatus
from trtd.ui.dashboard.blocks import Lines, bar, blank, joined, pulse, spread
from trtd.ui.dashboard.facts import title
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, CYAN, GREEN, QUIET
from trtd.ui.dashboard.times import age
from trtd.ui.progress import duration

_LONG_S = 100 * 3600
_TAIL_WIDTH = 22  # 57 % · 16:05 min left
_LEAST_BAR, _MOST_BAR = 6, 24
_STAGE_WIDTH = 9  # the longest names: calibrate, reference


def count_text(stage: StageStatus) -> str:
    """``32/64``; ``32`` if nobody knows of how many; nothing of what is one step."""
    if stage.total is None:
        return f"{stage.done:,}" if stage.done else ""
    return f"{stage.done:,}/{stage.total:,}" if stage.total > 1 else ""


def stage_bar(scene: Scene, stage: StageStatus | None, width: int) -> Text:
    if stage is None or not stage.total:
        return pulse(scene.look, scene.now, width, CYAN)
    return bar(scene.look, stage.done / stage.total, width, CYAN)


def times(scene: Scene, subject: SubjectStatus) -> tuple[str, str]:
    """How long the build has run, and how long its stage will still take; empty where that is not known."""
    stage, now = scene.live.get(subject.key), scene.now
    began = subject.started_at if subject.started_at is not None else stage.started_at if stage else None
    left_s = scene.context.pace.remaining_s(subject.key, stage, now) if stage else None
    elapsed = "" if began is None else _whole(now - began)
    return elapsed, "" if left_s is None else f"{_whole(max(left_s, 1.0))} left"


def _whole(seconds: float) -> str:
    """``4 s``, ``3:05 min``, ``1:02:09 h``, ``5 d``."""
    if seconds >= _LONG_S:
        return age(seconds)
    return duration(int(max(seconds, 0.0))).replace(".0 s", " s")


def build_cell(scene: Scene, subject: SubjectStatus, width: int) -> Text:
    """Bar, stage, count and times in one line, as far as they fit; the bar takes what is left over."""
    look, stage = scene.look, scene.live.get(subject.key)
    if stage is None:
        return _without_stage(scene, subject)
    elapsed, left = times(scene, subject)
    name = look.foreign(stage.stage)
    name.pad_right(_STAGE_WIDTH - name.cell_len)
    room = width - _LEAST_BAR - 1 - name.cell_len
    shown: list[str] = []
    for text in filter(None, (left, elapsed, count_text(stage))):
        need = len(text) + (3 if shown else 1)
        if need <= room:
            shown, room = [text, *shown], room - need
    line = joined(stage_bar(scene, stage, min(_LEAST_BAR + max(room, 0), _MOST_BAR)), " ", name)
    for number, text in enumerate(shown):
        line = joined(line, look.own(" · ", QUIET) if number else " ", look.own(text))
    return line


def _without_stage(scene: Scene, subject: SubjectStatus) -> Text:
    if not scene.snapshot.alive:
        return scene.look.own("ended with the daemon", QUIET)
    elapsed, _ = times(scene, subject)
    return scene.look.own(" · ".join(filter(None, ("starting", elapsed))), CYAN)


def stage_lines(scene: Scene, subject: SubjectStatus, width: int) -> Lines:
    """The build in three lines: stage and times, a long bar, the stages that are over."""
    look, stage = scene.look, scene.live.get(subject.key)
    elapsed, left = times(scene, subject)
    if stage is None:
        return [_without_stage(scene, subject)]
    what = joined(look.foreign(stage.stage, CYAN))
    for text in (count_text(stage), stage.note):
        if text:
            what = joined(what, look.own(" · ", QUIET), look.foreign(text))
    clock = look.own(elapsed)
    what = look.fitted(what, max(width - clock.cell_len - 1, 0))
    share = f"{min(stage.done * 100 // stage.total, 100)} %" if stage.total else ""
    tail = look.own(" · ".join(filter(None, (share, left))))
    room = max(tail.cell_len + 1, _TAIL_WIDTH)
    long = joined(stage_bar(scene, stage, max(width - room, 4)), look.fitted(tail, room, right=True))
    return [joined(what, " ", clock), long, *_steps(scene, stage, width)]


def _steps(scene: Scene, stage: StageStatus, width: int) -> Lines:
    """``✓ convert 4 s  ✓ calibrate stored  ● verify``; the latest, if not all fit."""
    look = scene.look
    parts = [
        joined(
            look.own("✓ ", GREEN), look.foreign(name), look.own(" stored" if cached else f" {duration(took)}", QUIET)
        )
        for name, took, cached in stage.finished
    ]
    if not parts:
        return []
    if not (stage.finished and stage.finished[-1][0] == stage.stage):
        parts.append(joined(look.own("● ", CYAN), look.foreign(stage.stage)))
    while len(parts) > 1 and sum(part.cell_len + 2 for part in parts) - 2 > width:
        parts.pop(0)
    line = blank()
    for part in parts:
        line = joined(line, "  " if line else "", part)
    return [line]


def build_lines(scene: Scene, subject: SubjectStatus, width: int) -> Lines:
    """Like :func:`stage_lines`, headed by the name of the subject, or of which of its engines, for a list of builds."""
    look, stage = scene.look, scene.live.get(subject.key)
    elapsed, _ = times(scene, subject)
    clock = look.own(elapsed if scene.snapshot.alive else "")
    named = stage.engine if stage is not None and len(subject.engines) > 1 else title(subject)
    name = joined(look.own("● ", CYAN), look.ends(named, max(width - clock.cell_len - 24, 8), BOLD))
    what = (
        f"{stage.stage} {count_text(stage)}".rstrip()
        if stage
        else "starting"
        if scene.snapshot.alive
        else "ended with the daemon"
    )
    head = spread(look, joined(name, "  ", look.foreign(what, CYAN)), clock, width)
    return [head, *stage_lines(scene, subject, width)[1:]]
