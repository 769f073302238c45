"""All subjects and what they share: names, the queue, room for builds, timers. What follows from each change."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import replace

from trtd.daemon.claims import Claims, Name
from trtd.daemon.conditions import describe, digest_of
from trtd.daemon.memory import Memory, Saved, basis_of, write
from trtd.daemon.messages import Forget, Instruction, Now, Observed, Save, Start, Stop, Tell, Unpublish
from trtd.daemon.news import about_trouble, removed_text
from trtd.daemon.phrases import listed, one_line
from trtd.daemon.queue import Queue, Room
from trtd.daemon.subject import Running, StopReason, Subject, decide
from trtd.status import Event, EventKind, Phase


class Board:
    """Holds the subjects; :meth:`settle` makes all that follows from what was changed in them.

    Attributes:
        may_start, draining: whether builds may be started, and whether those that run are to end.
        running: the attempt that runs, by key.
        leaving: keys of specs that are gone.
        phases: how many subjects are in each phase.
        touched: keys of subjects in which something changed since the last :meth:`settle`, in order.
        out: instructions since :meth:`begin`.
    """

    def __init__(self) -> None:
        self.may_start = self.draining = False
        self.subjects: dict[str, Subject] = {}
        self.claims = Claims()
        self.queue = Queue()
        self.room = Room()
        self.running: dict[str, int] = {}
        self.leaving: set[str] = set()
        self.phases: Counter[Phase] = Counter()
        self.touched: dict[str, None] = {}
        self.out: list[Instruction] = []
        self.now = Now(0.0, 0.0)
        self._publishing: dict[str, str] = {}  # engine: key of the spec whose running build publishes it
        self._timers: list[tuple[float, str]] = []
        self._attempts = 0

    def begin(self, now: Now) -> None:
        self.now, self.out, self.touched = now, [], {}

    def settle(self) -> None:
        """Decide about every touched subject, start what there is room for, and give out what is to be written down."""
        self._wake_due()
        for key in self.touched:
            self._judge(self.subjects[key])
        self._fill()
        for key in self.touched:
            subject = self.subjects[key]
            if subject.gone:
                self._let_go(subject)
            elif subject.view is not None:
                self._give_out(subject, subject.view)

    def claim(self, subject: Subject) -> None:
        """Let the subject claim its names; touches it and whoever came to have rivals or lost the last."""
        turned = self.claims.replace(subject.key, subject.names)
        self.touched |= dict.fromkeys([subject.key, *turned])

    def lose(self, subject: Subject) -> None:
        """The spec is gone, or asks for this target no more."""
        subject.gone, subject.told, subject.view, subject.scans_to_trust = True, None, None, 0
        self.leaving.add(subject.key)
        self.queue.remove(subject.key)
        self.claim(subject)

    def regain(self, subject: Subject) -> None:
        """It is there again before it was forgotten: as good as a new one, so that no chance of timing decides."""
        subject.gone = subject.gone_for_sure = False
        subject.is_new, subject.announced = True, None
        subject.memory = Memory(facts=subject.memory.facts, engines=subject.memory.engines)
        self.leaving.discard(subject.key)

    def release(self, subject: Subject, running: Running) -> None:
        """A build has ended: others may have its room, and publish its engines."""
        subject.running = None
        del self.running[subject.key]
        self.room.free(subject.key)
        for engine, _ in running.facts.engines:
            self._publishing.pop(engine, None)
            self.touched |= dict.fromkeys(self.claims.keys(Name("engine", engine)))
        self.touched |= dict.fromkeys([subject.key, *sorted(self.leaving)])

    def tell(self, subject: Subject, kind: EventKind, text: str) -> None:
        self.out.append(Tell(Event(self.now.wall_s, kind, subject.key, subject.name, text)))

    # ------------------------------------------------------------------------------------------------------- timers

    def next_due(self) -> float | None:
        """When the first wait is over (``mono_s``); ``None`` if nobody waits."""
        while self._timers and not self._is_due_at(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers and not self.draining else None

    def _wake_due(self) -> None:
        while self._timers and self._timers[0][0] <= self.now.mono_s:
            due_s, key = heapq.heappop(self._timers)
            if self._is_due_at(due_s, key):
                self.touched[key] = None

    def _is_due_at(self, due_s: float, key: str) -> bool:
        """Whether this timer is still wanted: entries stay behind when a subject is tried earlier."""
        subject = self.subjects.get(key)
        return subject is not None and _waits_until(subject) == due_s

    # ----------------------------------------------------------------------------------------------------- deciding

    def _judge(self, subject: Subject) -> None:
        """Decide about a subject and put it where it belongs."""
        if subject.view is None:
            self._stop(subject, "deleted")
            return
        former = _waits_until(subject)
        rivals = self.claims.rivals(subject.key)
        decision = subject.decision = decide(subject, subject.view, rivals, self._blocker(subject), self.now.mono_s)
        facts = subject.view.facts
        if decision.phase == "queued" and facts is not None:
            if self.queue.put(subject.key, facts.device, facts.priority, facts.memory_bytes):
                subject.queued_at = self.now.wall_s
        else:
            self.queue.remove(subject.key)
        due_s = _waits_until(subject)
        if due_s is not None and due_s != former:
            heapq.heappush(self._timers, (due_s, subject.key))
        if decision.phase == "invalid":
            self._stop(subject, "at fault")
        elif decision.phase == "conflict":
            self._stop(subject, "in conflict")
        elif self.draining:
            self._stop(subject, "ending")
        elif subject.running is not None and subject.running.stop:
            self._stop(subject, subject.running.stop)

    def _blocker(self, subject: Subject) -> str | None:
        facts = subject.facts
        if facts is None or not self._publishing:
            return None
        owners = (self._publishing.get(engine) for engine, _ in facts.engines)
        return next((owner for owner in owners if owner is not None and owner != subject.key), None)

    def _stop(self, subject: Subject, reason: StopReason) -> None:
        running = subject.running
        if running is not None and not running.told:
            running.stop, running.told = running.stop or reason, True
            self.out.append(Stop(subject.key, running.attempt))

    def _fill(self) -> None:
        if not self.may_start or self.draining:
            return
        while (key := self.queue.head(self.room)) is not None:
            self.queue.remove(key)
            subject = self.subjects[key]
            if subject.view is not None:
                self._start(subject, subject.view)

    def _start(self, subject: Subject, view: Observed) -> None:
        memory, key, facts = subject.memory, subject.key, view.facts
        assert facts is not None
        asked = ("somebody asked for it",) if memory.asked else ()
        reasons = (*asked, *subject.decision.needs.reasons)
        failure = memory.failure
        if memory.asked or failure is None or not failure.basis.same_but_inputs(basis_of(view)):
            subject.memory = memory = replace(memory, stalled_plans=())
        self._attempts += 1
        digest = subject.told.spec_digest if subject.told else ""
        subject.running = Running(self._attempts, view, facts, digest, self.now.wall_s, reasons)
        subject.decision = replace(subject.decision, phase="building")
        self.running[key] = self._attempts
        self._publishing |= {engine: key for engine, _ in facts.engines}
        self.room.take(key, facts.device, facts.memory_bytes)
        stalled = tuple(digest for digest, _ in memory.stalled_plans)
        self.out.append(Start(key, self._attempts, facts.device, reasons, stalled))
        if failure is None or failure.kind != "wait" or memory.asked or failure.basis != basis_of(view):
            self.tell(subject, "started", one_line(listed(reasons)))  # else it is looked whether the wait is over
        self.touched[key] = None

    # --------------------------------------------------------------------------------------------------- giving out

    def _give_out(self, subject: Subject, view: Observed) -> None:
        """Save the subject if anything that is saved has changed."""
        told, text = about_trouble(subject, view)
        if told != subject.memory.told:
            subject.memory = replace(subject.memory, told=told)
            if text:
                self.tell(subject, "stale" if subject.decision.phase == "stale" else "failed", text)
        status, subject.memory = describe(subject, view, self.now.wall_s)
        former, subject.status = subject.status, status
        if former is not None:
            self.phases[former.phase] -= 1
        self.phases[status.phase] += 1
        same = subject.memory == subject.saved
        if same and status == former:
            return
        digest = digest_of(status)
        if same and former is None and digest == subject.saved_status:  # as a former daemon saved it
            return
        subject.saved = subject.memory
        self.out.append(Save(status, write(Saved(subject.memory, digest))))

    def _let_go(self, subject: Subject) -> None:
        """Forget a subject that is gone, once nothing runs for it and its engines are retired."""
        facts, key = subject.memory.facts, subject.key
        engines = [engine for engine, _ in facts.engines] if facts and facts.on_delete == "unpublish" else []
        if subject.running is not None or (engines and not subject.gone_for_sure):
            return
        retired = tuple(name for name in engines if not self.claims.is_wanted(name, key))
        if any(engine in self._publishing for engine in retired):  # by a build for another spec, yet to end
            return
        if retired:
            self.out.append(Unpublish(retired))
        self.out.append(Forget(key))
        if facts is not None or subject.memory.told:  # else nothing was ever said of it
            self.tell(subject, "removed", removed_text(retired, engines))
        if subject.status is not None:
            self.phases[subject.status.phase] -= 1
        self.leaving.discard(key)
        del self.subjects[key]


def _waits_until(subject: Subject) -> float | None:
    """When a subject that waits for nothing but time is to be looked at again (``mono_s``)."""
    waits = subject.decision.phase in ("waiting", "backoff") and subject.decision.blocker is None
    return subject.retry_mono_s if waits else None
