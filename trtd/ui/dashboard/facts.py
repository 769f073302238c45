"""What a subject's status means, in one line each. Pure."""

from __future__ import annotations

import math
import shlex

from trtd.status import Condition, ConditionType, EngineStatus, SubjectStatus, file_of
from trtd.ui.dashboard.times import age


def main_engine(subject: SubjectStatus) -> EngineStatus | None:
    """The engine that stands for the subject: the least faithful of those that were measured, else the first."""
    if len(subject.engines) < 2:
        return subject.engines[0] if subject.engines else None
    return min(subject.engines, key=_faithful)


def _faithful(engine: EngineStatus) -> float:
    if engine.sqnr_db is None:
        return math.inf if engine.version is None else 1e300
    return -math.inf if math.isnan(engine.sqnr_db) else min(engine.sqnr_db, 1e299)


def title(subject: SubjectStatus) -> str:
    """Its name; its key, if nothing of the name can be seen."""
    return subject.name if subject.name.strip() else subject.key


def condition(subject: SubjectStatus, kind: ConditionType) -> Condition | None:
    return next((c for c in subject.conditions if c.type == kind), None)


def changed_at(subject: SubjectStatus) -> float:
    """When something last changed; 0 if nobody knows."""
    dates = [c.since for c in subject.conditions]
    dates += [at for at in (subject.started_at, subject.queued_at) if at is not None]
    dates += [e.published_at for e in subject.engines if e.published_at is not None]
    return max(dates, default=0.0)


def precisions(subject: SubjectStatus) -> str:
    """``int8``, ``int8 +2``: the main engine's precision and how many others there are."""
    engine = main_engine(subject)
    if engine is None:
        return ""
    others = len(subject.engines) - 1
    return f"{engine.precision} +{others}" if others else engine.precision


def versions(subject: SubjectStatus) -> str:
    """``digits-int8@3, digits-fp16@1``: what is live."""
    return ", ".join(f"{e.name}@{e.version}" for e in subject.engines if e.version is not None)


def one_line(text: str) -> str:
    return " ".join(text.split())


def situation(subject: SubjectStatus, now: float) -> str:
    """What is the matter with a subject that is not being built, in one line."""
    phase, problem = subject.phase, _problem(subject)
    reasons = one_line("; ".join(subject.reasons))
    if phase == "queued":
        waited = f"waits {age(now - subject.queued_at)}" if subject.queued_at is not None else "waits"
        return f"{waited} · {reasons}" if reasons else waited
    if phase in ("backoff", "waiting"):
        return " · ".join(filter(None, (next_try(subject, now), problem or _said(subject, "Building"))))
    if phase == "stale":
        return reasons or _said(subject, "Fresh")
    if phase == "settling":
        return _said(subject, "Settled") or "its files are still changing"
    if phase == "paused":
        return " · ".join(filter(None, ("somebody said pause", versions(subject))))
    if phase == "ready":
        return versions(subject) or _said(subject, "Ready")
    return problem or _said(subject, "Stalled") or reasons


def next_try(subject: SubjectStatus, now: float) -> str:
    """``again in 42 s (failure 3)``; empty if no time is set."""
    if subject.next_try_at is None:
        return ""
    left = subject.next_try_at - now
    text = f"again in {age(left + 0.999)}" if left > 0 else "again now"
    return f"{text} (failure {subject.failures})" if subject.failures > 1 else text


def next_step(subject: SubjectStatus) -> str:
    """What a person can do now, in one or more lines; empty if nothing is asked of anybody."""
    hint = subject.problem.hint if subject.problem else ""
    name = shlex.quote(subject.name)
    if hint:
        return hint
    return {
        "stalled": f"once its cause is mended: trtd retry {name}",
        "invalid": f"mend specs/{file_of(subject.key)}; it is read again as soon as it is saved",
        "conflict": "give each spec a name of its own, or remove all files but one",
        "stale": f"approve the rebuild: trtd retry {name}",
        "paused": f"trtd resume {name}",
        "backoff": f"at once: trtd retry {name}",
    }.get(subject.phase, "")


def _problem(subject: SubjectStatus) -> str:
    """The problem's message in one line; of a spec's the faults themselves, which follow a line that counts them."""
    message = subject.problem.message if subject.problem else ""
    if subject.problem and subject.problem.code == "spec":
        _, _, faults = message.partition("\n")
        message = faults or message
    return one_line(message)


def _said(subject: SubjectStatus, kind: ConditionType) -> str:
    found = condition(subject, kind)
    return one_line(found.message) if found else ""
