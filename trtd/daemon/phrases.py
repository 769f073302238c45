"""What the reconciler says to people: one line each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from trtd.daemon.claims import Name
from trtd.daemon.memory import LastFailure
from trtd.errors import TrtdError
from trtd.status import EngineStatus, Problem
from trtd.ui import figures

LONGEST = 400


def one_line(text: str) -> str:
    """``text`` with line ends and runs of spaces as single spaces, cut where it is too long to read."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def listed(texts: Iterable[str]) -> str:
    return "; ".join(texts)


@functools.cache
def error_name(code: str) -> str:
    """``GateMissed`` for the code ``gate``: the name of the class of :mod:`trtd.errors`."""
    kinds: list[type[TrtdError]] = [TrtdError]
    for kind in kinds:
        if kind.code == code:
            return kind.__name__
        kinds += kind.__subclasses__()
    return "".join(part.capitalize() for part in code.replace("_", "-").split("-")) or "Unknown"


def conflict_problem(rivals: Sequence[tuple[Name, tuple[str, ...], bool]]) -> Problem:
    """That others claim the same names, and which."""
    claims: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for name, others, more in rivals:
        what = f'engine "{name.text}"' if name.kind == "engine" else f'the name "{name.text}"'
        claims.setdefault((others, more), []).append(what)
    said = [f"{' and '.join(what)} also claimed by {_named(*who)}" for who, what in claims.items()]
    return Problem(
        "conflict",
        listed(said),
        hint="give each spec a name of its own (the key `name` at the top), or remove all files but one",
    )


def _named(others: tuple[str, ...], more: bool) -> str:
    names = [*others, *(["others"] if more else [])]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def published_text(engine: EngineStatus) -> str:
    """``digits-int8@3: cosine 0.99931, SQNR 31.2 dB, 2.10x FP32, 9.7 → 2.6 MB``."""
    parts = []
    if engine.cosine is not None:
        parts.append(f"cosine {figures.cosine(engine.cosine)}")
    if engine.sqnr_db is not None:
        decibels = figures.decibels(engine.sqnr_db)
        parts.append("exact" if decibels == "exact" else f"SQNR {decibels} dB")
    if engine.speedup is not None:
        parts.append(f"{figures.ratio(engine.speedup)} FP32")
    if engine.engine_bytes is not None and engine.fp32_bytes is not None:
        parts.append(figures.byte_change(engine.fp32_bytes, engine.engine_bytes))
    name = f"{engine.name}@{engine.version}"
    return one_line(f"{name}: {', '.join(parts)}" if parts else name)


def failed_text(name: str, failure: LastFailure, failures: int) -> str:
    """What failed and what happens next."""
    what = one_line(f"{failure.problem.where}: {failure.problem.message}".removeprefix(": "))
    if failure.kind == "wait":
        step = f"waits for it, next try in {duration(failure.delay_s)}"
    elif failure.kind == "backoff":
        step = f"failure {failures} in a row, next try in {duration(failure.delay_s)}"
    else:
        step = f"not tried again until its files or tools change, or: trtd retry {name}"
        if failure.problem.hint:
            step = f"{one_line(failure.problem.hint)[: LONGEST // 2].rstrip('.')}; {step}"
    return f"{what} → {step}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
