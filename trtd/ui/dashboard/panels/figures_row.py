"""Figures of an engine as cells."""

from __future__ import annotations

from rich.text import Text

from trtd.status import EngineStatus
from trtd.ui import figures
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.theme import QUIET, YELLOW

COSINE, SQNR, SPEEDUP, SIZE = 9, 7, 7, 15
"""Columns that each figure takes."""


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


def _figure(look: Look, text: str) -> Text:
    return look.own(text) if text else look.own(figures.ABSENT, QUIET)
