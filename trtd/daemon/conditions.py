"""Conditions of a subject, and with them its whole status, from what is known and decided. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from operator import attrgetter
from typing import NamedTuple

from trtd.daemon.keys import part_of
from trtd.daemon.memory import LastFailure, Memory
from trtd.daemon.messages import Observed
from trtd.daemon.phrases import conflict_problem, error_name, listed
from trtd.daemon.subject import Decision, Running, Subject
from trtd.errors import SpecError
from trtd.status import Condition, ConditionType, EngineStatus, Phase, Problem, SubjectStatus

FAILED: tuple[Phase, ...] = ("stalled", "waiting", "backoff")
_WITHOUT_REASONS: tuple[Phase, ...] = ("ready", "invalid", "conflict")

_NESTED = ("conditions", "engines")
_FLAT = attrgetter(*(f.name for f in fields(SubjectStatus) if f.name not in _NESTED))
_FLAT_CONDITION = attrgetter(*(f.name for f in fields(Condition)))
_FLAT_ENGINE = attrgetter(*(f.name for f in fields(EngineStatus)))


class Word(NamedTuple):
    """A condition without its date."""

    status: bool | None
    reason: str
    message: str


def describe(subject: Subject, view: Observed, wall_s: float) -> tuple[SubjectStatus, Memory]:
    """The status of a subject that the scan has told of, and its memory with the dates of the conditions."""
    decision, memory = subject.decision, subject.memory
    words = _words(subject, view)
    before = {kind: (status, since) for kind, status, since in memory.since}
    conditions = []
    for kind, word in words.items():
        status, since = before.get(kind, (None, wall_s))
        if kind not in before or status is not word.status:
            since = wall_s
        conditions.append(Condition(kind, *word, since))
    dates = tuple((c.type, c.status, c.since) for c in conditions)
    if dates != memory.since:
        memory = replace(memory, since=dates)
    facts, failure, running = subject.facts, standing_failure(subject), subject.running
    return SubjectStatus(
        key=subject.key,
        name=subject.name,
        target=facts.target if facts else part_of(subject.key),
        phase=decision.phase,
        conditions=tuple(conditions),
        engines=_engines(subject),
        priority=facts.priority if facts else 0,
        failures=memory.failures,
        queued_at=subject.queued_at if decision.phase == "queued" else None,
        started_at=running.started_at if running else None,
        next_try_at=failure.next_try_at if failure and decision.phase in FAILED else None,
        reasons=_reasons(decision, running),
        problem=_problem(decision, view, failure),
        log=memory.log,
    ), memory


def digest_of(status: SubjectStatus) -> str:
    """Equal for equal statuses, over restarts too. Not of ``repr(status)``, which takes most of a cold start's time."""
    plain = _FLAT(status), [_FLAT_CONDITION(c) for c in status.conditions], [_FLAT_ENGINE(e) for e in status.engines]
    return hashlib.blake2b(repr(plain).encode("utf-8", "replace"), digest_size=8).hexdigest()


def standing_failure(subject: Subject) -> LastFailure | None:
    """The last failure, in the phases that come of it; not while a subject waits for something else."""
    return subject.memory.failure if subject.decision.phase in FAILED and not subject.decision.blocker else None


def _reasons(decision: Decision, running: Running | None) -> tuple[str, ...]:
    if running is not None:
        return running.reasons
    return () if decision.phase in _WITHOUT_REASONS else decision.needs.reasons


def _problem(decision: Decision, view: Observed, failure: LastFailure | None) -> Problem | None:
    if decision.phase == "invalid":
        return fault_of(view)
    if decision.phase == "conflict":
        return conflict_problem(decision.rivals)
    return failure.problem if failure else None


def fault_of(view: Observed) -> Problem:
    return view.fault.problem if view.fault else Problem("spec", "the spec cannot be used, and nobody said why")


def live_versions(subject: Subject) -> dict[str, int | None]:
    """Live versions by engine: as seen, else as last published."""
    view = subject.view
    return dict(view.versions if view and view.versions else ((e.name, e.version) for e in subject.memory.engines))


def _engines(subject: Subject) -> tuple[EngineStatus, ...]:
    """The engines that the spec names. Figures are shown of the version that they were measured on, and of no other."""
    facts, live = subject.facts or subject.memory.facts, live_versions(subject)
    known = {engine.name: engine for engine in subject.memory.engines}
    shown = []
    for name, precision in facts.engines if facts else ():
        version, engine = live.get(name), known.get(name)
        fits = engine is not None and engine.version == version and engine.precision == precision
        shown.append(engine if engine is not None and fits else EngineStatus(name, precision, version))
    return tuple(shown)


def _words(subject: Subject, view: Observed) -> dict[ConditionType, Word]:
    settled = Word(True, "Still", "its files are still")
    if not view.settled:
        settled = Word(False, "FilesChanging", "its files are still changing")
    words: dict[ConditionType, Word] = {
        "SpecValid": _valid(subject, view),
        "Settled": settled,
        "Building": _building(subject),
        "Published": _published(subject),
        "Fresh": _fresh(subject, view),
        "Stalled": _stalled(subject, view),
    }
    words["Ready"] = _ready(subject.decision, words)
    return words


def _valid(subject: Subject, view: Observed) -> Word:
    """Some faults are seen only by the build, which has model and data at hand."""
    failure = standing_failure(subject)
    if view.facts is not None and failure is not None and failure.problem.code == SpecError.code:
        return Word(False, error_name(failure.problem.code), failure.problem.message)
    if view.facts is not None:
        return Word(True, "Valid", "the spec has no fault")
    fault = fault_of(view)
    if not view.settled:
        return Word(None, "FilesChanging", fault.message)
    if view.fault is not None and view.fault.retry != "never":
        return Word(None, "Unreadable", fault.message)
    return Word(False, "SpecInvalid", fault.message)


def _building(subject: Subject) -> Word:
    running, decision = subject.running, subject.decision
    if running is not None:
        if running.stop:
            return Word(True, "Stopping", f"the build is being stopped: {stop_words(running.stop)}")
        return Word(True, "Running", listed(running.reasons))
    if decision.phase == "queued":
        return Word(False, "Queued", "waits for its turn")
    if decision.phase == "waiting" and decision.blocker:
        return Word(False, "EngineBusy", f"waits for the build of {decision.blocker}, which publishes the same engine")
    if decision.phase == "paused":
        return Word(False, "Paused", "somebody said pause")
    if decision.phase in ("backoff", "waiting"):
        return Word(False, "BackingOff" if decision.phase == "backoff" else "Waiting", "will be tried again")
    return Word(False, "Idle", "nothing is being built")


def stop_words(stop: str) -> str:
    """Why a build was stopped."""
    words = {
        "cancelled": "somebody cancelled it",
        "at fault": "the spec is at fault now",
        "in conflict": "another spec claims the same name now",
        "deleted": "no spec asks for it any more",
        "ending": "the daemon is ending",
    }
    return words.get(stop, stop)


def _published(subject: Subject) -> Word:
    facts, live = subject.facts or subject.memory.facts, live_versions(subject)
    if facts is None:
        return Word(None, "Unknown", "the spec has never been read without fault")
    missing = [name for name, _ in facts.engines if live.get(name) is None]
    if missing:
        return Word(False, "NotPublished", f"not published: {', '.join(missing)}")
    return Word(True, "Live", ", ".join(f"{name}@{live[name]}" for name, _ in facts.engines))


def _fresh(subject: Subject, view: Observed) -> Word:
    if view.facts is None:
        return Word(None, "Unknown", "what the spec asks for is not known")
    needs = subject.decision.needs
    if needs.reasons:
        return Word(False, needs.code, listed(needs.reasons))
    return Word(True, needs.code, "what is published is what the spec asks for")


def _stalled(subject: Subject, view: Observed) -> Word:
    decision, failure = subject.decision, subject.memory.failure
    if decision.phase == "invalid" and (view.fault is None or view.fault.retry == "never"):
        return Word(True, "SpecInvalid", "the spec must be mended")
    if decision.phase == "conflict":
        return Word(True, decision_reason(decision), conflict_problem(decision.rivals).message)
    if decision.phase == "stalled" and failure is not None:
        reason = "Cancelled" if failure.kind == "cancelled" else error_name(failure.problem.code)
        return Word(True, reason, failure.problem.message)
    return Word(False, "NotStalled", "nobody's help is needed")


def decision_reason(decision: Decision) -> str:
    """The CamelCase word for a conflict."""
    return "DuplicateName" if any(name.kind == "spec" for name, _, _ in decision.rivals) else "DuplicateEngine"


def _ready(decision: Decision, words: dict[ConditionType, Word]) -> Word:
    valid, published, fresh = words["SpecValid"], words["Published"], words["Fresh"]
    if valid.status is not True:
        return Word(valid.status, valid.reason, valid.message)
    if decision.rivals:
        return Word(False, decision_reason(decision), conflict_problem(decision.rivals).message)
    if published.status is not True:
        return Word(published.status, published.reason, published.message)
    if fresh.status is not True:
        return Word(fresh.status, fresh.reason, fresh.message)
    return Word(True, "Ready", published.message)
