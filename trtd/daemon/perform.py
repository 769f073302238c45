"""Doing what the reconciler says, and telling it what came of it."""

from __future__ import annotations

import os
from pathlib import Path

from trtd.daemon.children import Progressed
from trtd.daemon.chronicle import Chronicle
from trtd.daemon.heap import give_back
from trtd.daemon.keys import part_of
from trtd.daemon.messages import (
    Answer,
    Finished,
    Forget,
    InEvent,
    Instruction,
    Now,
    Observed,
    Save,
    Start,
    Stop,
    Tell,
    Unpublish,
)
from trtd.daemon.parts import Parts
from trtd.daemon.policy import policy_of
from trtd.daemon.scan import Scanner
from trtd.daemon.wire import BuilderJob
from trtd.errors import TrtdError
from trtd.registry.unpublish import unpublish
from trtd.status import Event

WRITE_EVERY_S = 0.25
RETRY_S = 5.0
MANY = 200  # texts at a time: what they took is worth giving back


class Performer:
    """Carries events to the reconciler and its instructions out.

    Attributes:
        observed: every subject as it was last seen; without those that are gone.
        scanner: set by who scans.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._chronicle = Chronicle(parts.log)
        self._started: dict[int, tuple[str, float]] = {}  # attempt: target, mono_s
        self._write_mono_s = 0.0
        self._to_unpublish: dict[str, float] = {}  # engine: when to try (again)
        self._to_forget: set[str] = set()  # keys, once all is unpublished: the next daemon would not know of it
        self.observed: dict[str, Observed] = {}
        self.scanner: Scanner | None = None

    def step(self, event: InEvent, now: Now) -> Answer | None:
        """Give the reconciler one event and do all that follows; returns its answer to a command."""
        answer = None
        for instruction in self._parts.reconciler.step(event, now):
            if isinstance(instruction, Answer):
                answer = instruction
            else:
                self._perform(instruction, now)
        return answer

    def hear(self, news: Progressed | Finished, now: Now) -> None:
        """Something came from a build process."""
        if isinstance(news, Progressed):
            self._parts.state.progress(news.key, news.stage, news.log)
            self._chronicle.move(news.key, news.stage)
            return
        self._parts.state.progress(news.key, None)
        target, started_s = self._started.pop(news.attempt, ("", now.mono_s))
        self._parts.metrics.finished(target, news.outcome, now.mono_s - started_s)
        self._chronicle.read(news.key, news.attempt, news.outcome.spec_digest)
        self.step(news, now)
        self._chronicle.end(news.key, news.attempt)

    def tell(self, event: Event, *, loud: bool = False) -> None:
        """Something worth telling: to the log, the events, the hooks and the metrics."""
        parts = self._parts
        self._chronicle.tell(event, loud=loud)
        parts.state.tell(event)
        parts.hooks.tell(event)
        parts.metrics.observe(event)

    def say(self, text: str, now: Now, *, loud: bool = False) -> None:
        """Something worth telling about the daemon itself."""
        self.tell(Event(now.wall_s, "daemon", "", "trtd", text), loud=loud)

    def degrade(self, about: str, text: str, now: Now) -> None:
        """Something does not work, or with an empty text: works again. Told when it changes."""
        if self._parts.degraded.get(about, "") == text:
            return
        if text:
            self._parts.degraded[about] = text
        else:
            del self._parts.degraded[about]
        self.say(text or f"{about}: in order again", now, loud=bool(text))

    def next_due(self) -> float | None:
        """When :meth:`catch_up` has something to do."""
        dues = list(self._to_unpublish.values())
        if self._parts.state.is_dirty:
            dues.append(self._write_mono_s)
        return min(dues, default=None)

    def catch_up(self, now: Now) -> None:
        """Do what was put off: write the state down, unpublish what was locked."""
        for engine in [name for name, due_s in self._to_unpublish.items() if due_s <= now.mono_s]:
            if self._is_wanted(engine):  # somebody wrote a spec for it meanwhile
                del self._to_unpublish[engine]
                self.degrade(engine, "", now)
            else:
                self._unpublish(engine, now)
        if not self._to_unpublish:
            for key in self._to_forget:
                self._parts.state.forget(key)
            self._to_forget.clear()
        if self._write_mono_s <= now.mono_s:
            self.write_down(now)

    def write_down(self, now: Now) -> None:
        """Write what was gathered for the state database; if the disk refuses, later."""
        state = self._parts.state
        if not state.is_dirty:
            return
        self._write_mono_s = now.mono_s + WRITE_EVERY_S
        try:
            written = state.flush()
        except TrtdError as error:
            self._write_mono_s = now.mono_s + RETRY_S
            self.degrade("state database", f"state database: {error.message}", now)
        else:
            self.degrade("state database", "", now)
            if written >= MANY:
                give_back()
        if state.take_lost():
            self._gather_all(now)

    def _gather_all(self, now: Now) -> None:
        """The state database was lost: have everything in it again at the next write."""
        state = self._parts.state
        for save in self._parts.reconciler.saves():
            state.save(save)
        for key in self.observed:
            state.remember(key, self.scanner.memory(key) if self.scanner else None)
        self.say(f"the state database was lost and is written anew. {state.take_note()}".rstrip(), now)

    def _perform(self, instruction: Instruction, now: Now) -> None:
        parts = self._parts
        match instruction:
            case Start():
                self._start(instruction, now)
            case Stop(key, attempt):
                parts.children.stop(key, attempt, now.mono_s)
            case Unpublish(engines):
                for engine in engines:
                    self._unpublish(engine, now)
            case Save(status):
                self._to_forget.discard(status.key)
                parts.state.save(instruction)
            case Forget(key):
                self._to_forget.add(key)
            case Tell(event):
                self.tell(event)

    def _start(self, start: Start, now: Now) -> None:
        parts, facts = self._parts, self.observed[start.key].facts
        assert self.scanner is not None
        assert facts is not None
        config, policy = parts.config, policy_of(parts.config, facts)
        job = BuilderJob(
            spec=Path(os.path.abspath(self.scanner.path(start.key))),
            registry=parts.registry.root,
            part=part_of(start.key),
            deadline_s=policy.build_deadline_s,
            stage_deadline_s=policy.stage_deadline_s,
            memory_limit_bytes=policy.memory_limit_bytes,
            roots=config.roots,
            hooks_allowed=config.access.python_hooks,
            unverified_allowed=config.access.unverified,
            threads=policy.threads,
            listings=self.scanner.listings(start.key),
            tools=self.observed[start.key].tools,
        )
        self._started[start.attempt] = (facts.target, now.mono_s)
        self._chronicle.begin(start.key, start.attempt, self.observed[start.key].spec_digest)
        parts.children.start(start, job, now.mono_s)

    def _unpublish(self, engine: str, now: Now) -> None:
        self._to_unpublish.pop(engine, None)
        try:
            unpublish(self._parts.registry, engine, wait_s=0)
        except TrtdError as error:
            self._to_unpublish[engine] = now.mono_s + RETRY_S
            self.degrade(engine, f"{engine} is still published: {error.message}", now)
        else:
            self.degrade(engine, "", now)

    def _is_wanted(self, engine: str) -> bool:
        seen = (observed.facts for observed in self.observed.values())
        return any(facts is not None and engine in dict(facts.engines) for facts in seen)
