"""Drives a reconciler step by step: observations with good defaults, a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from trtd.daemon.backoff import Timing
from trtd.daemon.messages import (
    Answer,
    Capacity,
    Command,
    CommandName,
    EngineOutcome,
    Failure,
    Finished,
    Forget,
    Gone,
    InEvent,
    Instruction,
    Now,
    Observed,
    Outcome,
    Save,
    Scanned,
    Seen,
    SpecFacts,
    Start,
    Stop,
    Tell,
    Tick,
)
from trtd.daemon.reconciler import Reconciler
from trtd.errors import Retry
from trtd.status import Condition, EngineStatus, Problem, SubjectStatus

TOOLS = (("onnxruntime", "1.31.0"), ("trtd", "0.1.0"))
EPOCH = 1_700_000_000.0
Kind = TypeVar("Kind", bound=Instruction)


def facts_of(name: str, *precisions: str, **changes: Any) -> SpecFacts:
    """Facts of a valid spec; with several precisions, as many engines."""
    chosen = precisions or ("int8",)
    engines = tuple((f"{name}-{p}" if len(chosen) > 1 else name, p) for p in chosen)
    return replace(SpecFacts(name, engines, "onnxruntime-cpu"), **changes)


def observed(name: str, **changes: Any) -> Observed:
    """A valid, settled spec ``NAME.toml`` of which nothing is published."""
    facts = changes.pop("facts", facts_of(name))
    versions = tuple((engine, None) for engine, _ in facts.engines) if facts else ()
    made = Observed(f"{name}.toml", "spec-1", facts, None, "inputs-1", TOOLS, versions)
    return replace(made, **changes)


def failure(retry: Retry, message: str = "it broke", code: str = "engine", hint: str = "") -> Failure:
    return Failure(Problem(code, message, hint), retry)


def engine(name: str, version: int | None = 1, precision: str = "int8", **figures: Any) -> EngineStatus:
    return EngineStatus(name, precision, version, **figures)


def done(*engines: EngineStatus, built: bool = True, spec: str = "") -> Outcome:
    """A build in which every engine succeeded."""
    return Outcome(spec, tuple(EngineOutcome(e, f"plan-{e.name}", built) for e in engines))


class Driver:
    """A reconciler, its clock, and what it said last.

    Attributes:
        out: instructions of the last event.
        memories: what was last saved of each key and not forgotten since.
    """

    def __init__(self, timing: Timing | None = None) -> None:
        self.reconciler = Reconciler(timing) if timing else Reconciler()
        self.mono_s, self.wall_s = 1000.0, EPOCH
        self.out: list[Instruction] = []
        self.memories: dict[str, str] = {}
        self.seen: dict[str, Observed] = {}

    @property
    def now(self) -> Now:
        return Now(self.mono_s, self.wall_s)

    def step(self, event: InEvent) -> list[Instruction]:
        self.out = self.reconciler.step(event, self.now)
        for instruction in self.out:
            if isinstance(instruction, Save):
                self.memories[instruction.status.key] = instruction.memory
            elif isinstance(instruction, Forget):
                self.memories.pop(instruction.key, None)
        return self.out

    def see(self, name: str, **changes: Any) -> list[Instruction]:
        """Tell of a new spec, or of changes of one that was told before."""
        known = self.seen.get(name)
        self.seen[name] = replace(known, **changes) if known else observed(name, **changes)
        return self.step(Seen(self.seen[name]))

    def scan(self, **subjects: dict[str, Any]) -> list[Instruction]:
        """Tell of specs, then that the scan is complete; gives the instructions of all."""
        out = [i for name, changes in subjects.items() for i in self.see(name, **changes)]
        self.out = out + self.step(Scanned())
        return self.out

    def gone(self, name: str) -> list[Instruction]:
        self.seen.pop(name, None)
        return self.step(Gone(f"{name}.toml"))

    def finish(self, name: str, outcome: Outcome | Failure) -> list[Instruction]:
        """End the running build of a spec."""
        if isinstance(outcome, Failure):
            outcome = Outcome("", (), outcome)
        key = f"{name}.toml"
        return self.step(Finished(key, self.reconciler.running[key], outcome, f"/logs/{name}.log"))

    def succeed(self, name: str, version: int = 1) -> list[Instruction]:
        """End the running build of a spec well, and let the scan tell of the new versions."""
        facts = self.seen[name].facts
        assert facts is not None
        self.finish(name, done(*(engine(e, version, p) for e, p in facts.engines)))
        out = self.out
        out += self.see(name, versions=tuple((e, version) for e, _ in facts.engines))
        self.out = out
        return out

    def say(self, command: CommandName, name: str) -> Answer:
        (answer,) = of(Answer, self.step(Command(command, name)))
        return answer

    def wait(self, seconds: float) -> list[Instruction]:
        self.mono_s += seconds
        self.wall_s += seconds
        return self.step(Tick())

    def limit(self, *slots: tuple[str, int], memory_bytes: int = 2**40, build_memory_bytes: int = 0) -> None:
        self.step(Capacity(slots, memory_bytes, build_memory_bytes))

    def restart(self, *, wall_jump_s: float = 0.0) -> Driver:
        """Another daemon that knows what this one saved; the monotonic clock begins anew."""
        heir = Driver(self.reconciler.timing)
        heir.mono_s, heir.wall_s = 5.0, self.wall_s + wall_jump_s
        heir.seen, heir.memories = dict(self.seen), dict(self.memories)
        heir.reconciler.restore(self.memories.items(), heir.now)
        return heir

    def rescan(self) -> list[Instruction]:
        """Tell everything again, as after a restart."""
        out = [i for seen in list(self.seen.values()) for i in self.step(Seen(seen))]
        self.out = out + self.step(Scanned())
        return self.out

    def status(self, name: str) -> SubjectStatus:
        (found,) = (s for s in self.reconciler.statuses() if s.key == f"{name}.toml")
        return found

    def condition(self, name: str, kind: str) -> Condition:
        (found,) = (c for c in self.status(name).conditions if c.type == kind)
        return found

    def told(self) -> list[tuple[str, str]]:
        """Kind and text of the last events."""
        return [(tell.event.kind, tell.event.text) for tell in of(Tell, self.out)]


def of(kind: type[Kind], out: Iterable[Instruction]) -> list[Kind]:
    return [instruction for instruction in out if isinstance(instruction, kind)]


def started(out: Iterable[Instruction]) -> list[str]:
    """Names of the specs whose builds were started."""
    return [start.key.removesuffix(".toml") for start in of(Start, out)]


def stopped(out: Iterable[Instruction]) -> list[str]:
    return [stop.key.removesuffix(".toml") for stop in of(Stop, out)]


def about_to_build() -> Driver:
    """One spec, ``digits``, whose first build runs."""
    made = Driver()
    made.scan(digits={})
    return made


def published() -> Driver:
    """One spec, ``digits``, built and published as version 1."""
    made = about_to_build()
    made.succeed("digits")
    assert made.status("digits").phase == "ready"
    return made
