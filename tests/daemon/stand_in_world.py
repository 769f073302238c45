"""Stand-ins for spec files, models, tools, a registry and build processes.

Nothing here knows how the reconciler decides. Digests are texts that say what they are of.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from trtd.daemon.memory import Basis
from trtd.daemon.messages import (
    EngineOutcome,
    Failure,
    Observed,
    Outcome,
    Recorded,
    SpecFacts,
    Start,
)
from trtd.errors import Retry
from trtd.status import EngineStatus, Problem

Fate = Literal["good", "never", "wait", "backoff", "half"]


@dataclass(frozen=True)
class StandInSpec:
    """What a spec file says. ``hopeless``: its last engine can never pass its gates."""

    name: str
    edit: int = 0
    precisions: tuple[str, ...] = ("int8",)
    valid: bool = True
    hopeless: bool = False
    rebuild: Literal["auto", "ask"] = "auto"
    on_delete: Literal["keep", "unpublish"] = "keep"
    priority: int = 0
    device: str = "cpu"
    memory_bytes: int | None = None

    @property
    def facts(self) -> SpecFacts:
        engines = tuple((f"{self.name}-{p}" if len(self.precisions) > 1 else self.name, p) for p in self.precisions)
        target = "onnxruntime-cpu"
        return SpecFacts(
            self.name, engines, target, self.device, self.priority, self.rebuild, self.on_delete, self.memory_bytes
        )


@dataclass
class StandInWorld:
    """Files and the registry.

    Attributes:
        listings: of model and data of each spec; ``data``: their bytes.
        moving: keys of specs whose files were not still at the last look; ``unreadable``: that cannot be read.
        away: whether the folder of the specs is not there.
        live: version and content of each published engine.
    """

    specs: dict[str, StandInSpec] = field(default_factory=dict)
    listings: dict[str, int] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)
    tools: int = 1
    moving: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    away: bool = False
    live: dict[str, tuple[int, str]] = field(default_factory=dict)
    evidence: dict[tuple[str, int], Basis] = field(default_factory=dict)
    versions: int = 0

    def look(self, key: str) -> Observed:
        spec = self.specs[key]
        fault = None
        if key in self.unreadable:
            fault = Failure(Problem("storage", "EIO"), "backoff")
        elif not spec.valid:
            fault = Failure(Problem("spec", "a typo"), "never")
        if fault is not None:
            return Observed(
                key, "" if key in self.unreadable else repr(spec), None, fault, settled=key not in self.moving
            )
        facts = spec.facts
        versions = tuple((engine, self.live.get(engine, (None, ""))[0]) for engine, _ in facts.engines)
        listing, tools = f"listing {self.listings[key]}", (("tool", str(self.tools)),)
        return Observed(key, repr(spec), facts, None, listing, tools, versions, key not in self.moving)

    def recorded(self, key: str) -> Recorded | None:
        """What the records of a spec's live versions say, if they agree."""
        facts = self.specs[key].facts
        found = [(e, self.live[e][0]) for e, _ in facts.engines if e in self.live]
        said = {self.evidence.get(version) for version in found}
        basis = said.pop() if len(said) == 1 and len(found) == len(facts.engines) else None
        if basis is None or not self.specs[key].valid:
            return None
        engines = tuple(EngineStatus(engine, "", version) for engine, version in found)
        return Recorded(key, basis.spec_digest, basis.inputs_digest, basis.tools, engines)

    def publish(self, engine: str, content: str) -> int:
        self.versions += 1
        self.live[engine] = (self.versions, content)
        return self.versions


@dataclass
class StandInBuilder:
    """A build process: reads the spec some time after its start, publishes some time later, then ends."""

    start: Start
    told: Observed
    facts: SpecFacts
    stop: bool = False
    outcome: Outcome | None = None
    read: StandInSpec | None = None
    data: int = 0
    tools: int = 0

    def look(self, world: StandInWorld) -> None:
        key = self.start.key
        self.read = world.specs.get(key)
        if key in world.unreadable or world.away:
            self.read = None
        self.data, self.tools = world.data.get(key, 0), world.tools

    def work(self, world: StandInWorld, fate: Fate) -> None:
        spec = self.read
        if spec is None or not spec.valid:
            digest = repr(spec) if spec else ""
            self.outcome = Outcome(digest, (), Failure(Problem("spec", "at fault"), "never" if spec else "backoff"))
            return
        if fate in ("wait", "backoff") and self.data % 2:  # before anything begins
            self.outcome = Outcome(repr(spec), (), _failure(fate))
            return
        engines = spec.facts.engines
        made = []
        for index, (engine, precision) in enumerate(engines):
            last = index == len(engines) - 1
            one: Fate = "good" if fate == "half" and not last else "backoff" if fate == "half" else fate
            made.append(self._engine(world, spec, engine, precision, "never" if spec.hopeless and last else one))
        self.outcome = Outcome(repr(spec), tuple(made))
        is_still = f"listing {world.listings.get(self.start.key)}" == self.told.inputs_digest
        if is_still and not any(engine.failure or engine.unchanged for engine in made):
            seen = Basis(repr(spec), self.told.inputs_digest, self.told.tools)
            world.evidence |= {(e.status.name, e.status.version or 0): seen for e in made}

    def _engine(self, world: StandInWorld, spec: StandInSpec, engine: str, precision: str, fate: Fate) -> EngineOutcome:
        content = f"{engine} of {replace(spec, priority=0)} from {self.data} with {self.tools}"
        version, there = world.live.get(engine, (None, ""))
        if there == content:
            return EngineOutcome(EngineStatus(engine, precision, version), content, built=False)
        if content in self.start.stalled_plans:
            return EngineOutcome(EngineStatus(engine, precision, version), content, built=False, unchanged=True)
        if fate != "good":
            return EngineOutcome(EngineStatus(engine, precision, version), content, False, _failure(fate))
        new = world.publish(engine, content)
        return EngineOutcome(EngineStatus(engine, precision, new, cosine=0.999), content, built=True)

    @property
    def ending(self) -> Outcome:
        return self.outcome or Outcome("", (), Failure(Problem("stage", "was stopped"), "never"))


def _failure(fate: Fate) -> Failure:
    kind: Retry = "backoff" if fate in ("backoff", "half") else "wait" if fate == "wait" else "never"
    return Failure(Problem("stage", f"failed for {kind}"), kind)
