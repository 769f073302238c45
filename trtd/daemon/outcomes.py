"""What a finished build means for what is remembered. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trtd.daemon.backoff import Timing, backoff_delay_s
from trtd.daemon.memory import Basis, LastFailure, Memory, Success, basis_of
from trtd.daemon.messages import EngineOutcome, Failure, Outcome
from trtd.daemon.subject import Running
from trtd.errors import Retry
from trtd.status import EngineStatus, Problem

_WORST_FIRST: tuple[Retry, ...] = ("backoff", "wait", "never")
_SILENT = Failure(
    Problem("worker-silent", "the build process ended without telling what became of it", "its log says more"),
    "backoff",
)


@dataclass(frozen=True)
class Absorbed:
    """Attributes:
    succeeded: ``None`` if it was stopped before it could do either.
    news: whether the failure, if it is one, is another than the one before.
    built: engines that were published.
    """

    memory: Memory
    succeeded: bool | None
    news: bool
    built: tuple[EngineStatus, ...]


@dataclass(frozen=True)
class _Fault:
    engine: EngineOutcome | None
    failure: Failure
    unchanged: bool


def absorb(key: str, memory: Memory, running: Running, outcome: Outcome, wall_s: float, timing: Timing) -> Absorbed:
    """What is remembered after a build.

    All engines must have succeeded. Of several failures one that can be mended by trying again decides, and of those
    the one that waits longer: ``backoff``, ``wait``, ``never``. What the build itself read counts: its
    ``outcome.spec_digest`` may be newer than what was seen. A build that was told to stop has failed for that reason
    alone; if it succeeded all the same, it succeeded.
    """
    basis = basis_of(running.view)
    if outcome.spec_digest:
        basis = replace(basis, spec_digest=outcome.spec_digest)
    faults = _faults(outcome, dict(memory.stalled_plans))
    memory = replace(memory, engines=_merged(memory.engines, outcome.engines))
    built = tuple(engine.status for engine in outcome.engines if engine.built and engine.failure is None)
    if not faults:
        return Absorbed(_succeeded(memory, running, outcome, basis), True, False, built)
    if running.stop:
        return Absorbed(memory, None, False, built)
    worst = min(faults, key=lambda fault: _WORST_FIRST.index(fault.failure.retry))
    tried = not all(fault.unchanged for fault in faults)
    memory = replace(
        memory,
        failures=memory.failures + tried,
        backoffs=memory.backoffs + (worst.failure.retry == "backoff"),
        asked=running.again,
    )
    if outcome.engines:
        memory = replace(memory, stalled_plans=_stalled_plans(faults))
    failure = _last_failure(key, memory, worst, faults, len(outcome.engines), basis, wall_s, timing)
    old = memory.failure
    same = old is not None and (old.kind, old.problem) == (failure.kind, failure.problem)
    news = tried and not (same and failure.kind == "wait")
    return Absorbed(replace(memory, failure=failure), False, news, built)


def _succeeded(memory: Memory, running: Running, outcome: Outcome, basis: Basis) -> Memory:
    versions = tuple((engine.status.name, engine.status.version) for engine in outcome.engines)
    idle = not any(engine.built for engine in outcome.engines)
    accepted = (versions, running.view.versions) if idle and running.view.versions != versions else (versions,)
    cancelled = memory.failure if memory.failure and memory.failure.kind == "cancelled" else None
    names = {engine.status.name for engine in outcome.engines}
    return replace(
        memory,
        success=Success(basis, accepted),
        failure=None if cancelled and cancelled.basis.same_bytes(basis) else cancelled,
        failures=0,
        backoffs=0,
        stalled_plans=(),
        asked=running.again,
        approved=None,
        engines=tuple(engine for engine in memory.engines if engine.name in names),
    )


def _faults(outcome: Outcome, stalled: dict[str, Problem]) -> list[_Fault]:
    faults = [_Fault(None, outcome.failure, False)] if outcome.failure else []
    for engine in outcome.engines:
        failure = engine.failure
        if engine.unchanged and failure is None:
            problem = stalled.get(engine.plan_digest) or Problem("stage", "its plan is one that failed before")
            failure = Failure(problem, "never")
        if failure is not None:
            faults.append(_Fault(engine, failure, engine.unchanged))
    return faults if faults or outcome.engines else [_Fault(None, _SILENT, False)]


def _stalled_plans(faults: Iterable[_Fault]) -> tuple[tuple[str, Problem], ...]:
    return tuple(
        (fault.engine.plan_digest, fault.failure.problem)
        for fault in faults
        if fault.engine and fault.engine.plan_digest and fault.failure.retry == "never"
    )


def _last_failure(
    key: str,
    memory: Memory,
    worst: _Fault,
    faults: list[_Fault],
    engines: int,
    basis: Basis,
    wall_s: float,
    timing: Timing,
) -> LastFailure:
    kind, problem = worst.failure.retry, worst.failure.problem
    if worst.engine is not None and engines > 1:
        others = f" (and {len(faults) - 1} more failed)" if len(faults) > 1 else ""
        problem = replace(problem, message=f"{worst.engine.status.name}: {problem.message}{others}")
    if kind == "never":
        return LastFailure(kind, problem, basis)
    delay_s = timing.wait_s if kind == "wait" else backoff_delay_s(key, memory.backoffs, timing)
    return LastFailure(kind, problem, basis, delay_s, wall_s + delay_s)


def _merged(known: tuple[EngineStatus, ...], outcomes: tuple[EngineOutcome, ...]) -> tuple[EngineStatus, ...]:
    """What is known of each engine. A build that failed, or found nothing to do, has measured nothing."""
    merged = {engine.name: engine for engine in known}
    for outcome in outcomes:
        new, old = outcome.status, merged.get(outcome.status.name)
        if old is None or (new.version is not None and (new.version != old.version or _measured(new))):
            merged[new.name] = new
    return tuple(merged.values())


def _measured(engine: EngineStatus) -> bool:
    return any(figure is not None for figure in (engine.cosine, engine.sqnr_db, engine.speedup))
