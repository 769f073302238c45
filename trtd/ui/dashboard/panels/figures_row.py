"""Figures of an engine as cells, and which of them a line has room for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from trtd.status import EngineStatus
from trtd.ui import figures
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.theme import QUIET, YELLOW
from trtd.ui.dashboard.times import age

COSINE, SQNR, SPEEDUP, SIZE = 9, 7, 7, 15
"""Columns that each figure takes in the list."""

GAP = 2


@dataclass(frozen=True)
class Figure:
    """A figure in a line of its engine; ``write`` makes it as of a moment."""

    title: str
    width: int
    write: Callable[[Look, EngineStatus, float], Text]


def chosen(room: int) -> tuple[Figure, ...]:
    """The figures that fit ``room`` columns, gaps before them included: fidelity, speedup and size before others."""
    for figures_shown in _CHOICES:
        if width_of(figures_shown) <= room:
            return figures_shown
    return _CHOICES[-1]


def width_of(shown: tuple[Figure, ...]) -> int:
    """Columns that the figures take, gaps before them included."""
    return sum(GAP + figure.width for figure in shown)


def cosine(look: Look, engine: EngineStatus | None) -> Text:
    return _figure(look, figures.cosine(engine.cosine) if engine and engine.cosine is not None else "")


def sqnr(look: Look, engine: EngineStatus | None) -> Text:
    return _figure(look, figures.decibels(engine.sqnr_db) if engine and engine.sqnr_db is not None else "")


def speedup(look: Look, engine: EngineStatus | None) -> Text:
    """Yellow if it is none."""
    if engine is None or engine.speedup is None:
        return _figure(look, "")
    return look.own(figures.ratio(engine.speedup), "" if engine.speedup >= 1 else YELLOW)


def size(look: Look, engine: EngineStatus | None) -> Text:
    if engine is None or engine.engine_bytes is None:
        return _figure(look, "")
    if engine.fp32_bytes is None:
        return _figure(look, figures.byte_size(engine.engine_bytes))
    return _figure(look, figures.byte_change(engine.fp32_bytes, engine.engine_bytes))


def _own_size(look: Look, engine: EngineStatus) -> Text:
    return _figure(look, "" if engine.engine_bytes is None else figures.byte_size(engine.engine_bytes))


def _decibels(look: Look, engine: EngineStatus) -> Text:
    line = sqnr(look, engine).copy()
    return line.append(" dB", QUIET) if line.plain[-1:].isdigit() else line


def _ago(look: Look, engine: EngineStatus, now: float) -> Text:
    return look.own(age(now - engine.published_at) if engine.published_at else "", QUIET)


def _figure(look: Look, text: str) -> Text:
    return look.own(text) if text else look.own(figures.ABSENT, QUIET)


_SPEEDUP = Figure("speedup", SPEEDUP, lambda look, engine, now: speedup(look, engine))
_SQNR = Figure("SQNR", 8, lambda look, engine, now: _decibels(look, engine))
_SIZE = Figure("size", SIZE, lambda look, engine, now: size(look, engine))
_OWN_SIZE = Figure("size", 7, lambda look, engine, now: _own_size(look, engine))
_COSINE = Figure("cosine", COSINE, lambda look, engine, now: cosine(look, engine))
_AGO = Figure("ago", 6, _ago)
_CHOICES = (
    (_SPEEDUP, _SQNR, _SIZE, _COSINE, _AGO),
    (_SPEEDUP, _SQNR, _SIZE, _COSINE),
    (_SPEEDUP, _SQNR, _SIZE, _AGO),
    (_SPEEDUP, _SQNR, _SIZE),
    (_SPEEDUP, _SQNR, _OWN_SIZE, _AGO),
    (_SPEEDUP, _SQNR, _OWN_SIZE),
    (_SPEEDUP, _SQNR),
    (_SPEEDUP,),
    (),
)
