"""The reconciler: events in, instructions out. No I/O, no clock, no chance, no threads.

Every event changes what is known of some subjects; then each of these is decided anew from all that is known of it
(:func:`trtd.daemon.subject.decide`), so that it does not matter in which order things were learned. One build runs for
a subject at a time; what changes meanwhile is looked at when it has ended. What must survive the daemon is in each
subject's :class:`~trtd.daemon.memory.Memory`, given out by ``Save`` whenever it changed.

**Trying again.** A failure holds as long as spec, listing of model and data, and tools are what it happened with. Class
``never`` then waits for people, ``wait`` for ``wait_s``, ``backoff`` for a delay that doubles with each failure of that
class. When any of the three changes, the subject is tried at once: whoever replaces a model that ran out of memory
should not wait for an hour. But only a success sets the count back: what changes and fails in turn is tried once for
each change and waits ever longer in between.

**Names.** Whoever claims a name that another spec claims is in conflict, and none of them is built. Claims count when a
spec has settled; while its file is being changed, it claims what it did before. A build that is being stopped keeps its
engines to itself until it has ended.

**Deleted specs.** A spec's engines are retired when its build has ended and a scan was completed after it was gone:
then it is known whether another spec, perhaps the same under another file name, has taken them over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trtd.daemon.backoff import Timing, remaining_s
from trtd.daemon.board import Board
from trtd.daemon.conditions import digest_of
from trtd.daemon.memory import Basis, Saved, Success, basis_of, pooled, read, write
from trtd.daemon.messages import (
    Answer,
    Blind,
    Capacity,
    Command,
    Drain,
    Finished,
    Gone,
    InEvent,
    Instruction,
    Now,
    Observed,
    Recorded,
    Save,
    Scanned,
    Seen,
    Tick,
)
from trtd.daemon.news import about_change, about_outcome
from trtd.daemon.orders import find, obey
from trtd.daemon.outcomes import absorb
from trtd.daemon.phrases import one_line
from trtd.daemon.subject import Subject
from trtd.status import Phase, Problem, SubjectStatus

USUAL = Timing()


class Reconciler:
    """Decides what is to be built when. Not thread-safe.

    Attributes:
        timing: may be replaced at any time; holds for failures from then on.
    """

    def __init__(self, timing: Timing = USUAL) -> None:
        self.timing = timing
        self._board = Board()
        self._distrusted: set[str] = set()  # keys whose builds know more than the scan

    # ------------------------------------------------------------------------------------------------- read access

    @property
    def queued(self) -> int:
        """How many subjects wait for their turn."""
        return len(self._board.queue)

    @property
    def running(self) -> dict[str, int]:
        """The attempt that runs, by key."""
        return dict(self._board.running)

    def occupied(self, device: str) -> int:
        """How many builds run on a device."""
        return self._board.room.running(device)

    def statuses(self) -> list[SubjectStatus]:
        """Of all subjects that a scan has told of, in no order."""
        return [subject.status for subject in self._board.subjects.values() if subject.status is not None]

    def saves(self) -> list[Save]:
        """All that ``Save`` has told of every subject, for a state database that was lost."""
        known = [(subject, subject.status) for subject in self._board.subjects.values()]
        return [Save(status, write(Saved(s.memory, digest_of(status)))) for s, status in known if status is not None]

    def counts(self) -> dict[Phase, int]:
        """How many subjects are in each phase; phases without any are left out."""
        return {phase: count for phase, count in self._board.phases.items() if count}

    def find(self, name: str) -> str | Problem:
        """The key that a key, a spec's name or an engine's name means, or why it means none."""
        found = find(name, self._present())
        return found if isinstance(found, Problem) else found.key

    def next_wake(self) -> float | None:
        """When ``Tick`` would do something (``mono_s``); ``None``: nothing is due."""
        return self._board.next_due()

    # ------------------------------------------------------------------------------------------------------ events

    def restore(self, memories: Iterable[tuple[str, str]], now: Now) -> None:
        """Take up what a former daemon knew. Call it before any event.

        Args:
            memories: key and ``memory`` of the last ``Save`` of each. What cannot be read is forgotten: such a subject
                is built as if it were new, and the build finds out that there is nothing to do.
            now: clocks may have jumped: no wait becomes longer than it was, or than ``timing`` has it now.
        """
        for key, text in memories:
            saved = read(text)
            if saved is None:
                continue
            memory, failure = saved.memory, saved.memory.failure
            subject = self._board.subjects[key] = Subject(key, memory, saved.status)
            if failure is None or failure.next_try_at is None:
                continue
            cap_s = self.timing.wait_s if failure.kind == "wait" else self.timing.backoff_max_s
            left_s = remaining_s(failure.next_try_at, now.wall_s, min(failure.delay_s, cap_s))
            subject.retry_mono_s = now.mono_s + left_s
            if left_s and now.wall_s + left_s < failure.next_try_at:
                subject.memory = replace(memory, failure=replace(failure, next_try_at=now.wall_s + left_s))

    def step(self, event: InEvent, now: Now) -> list[Instruction]:
        """Take in one event; gives what is to be done now, in this order: an answer comes when all else is done."""
        board = self._board
        board.begin(now)
        answers: list[Answer] = []
        match event:
            case Recorded():
                self._recall(event)
            case Seen(observed):
                self._see(observed)
            case Gone(key):
                self._lose(key)
            case Scanned():
                self._complete_scan()
            case Blind():
                board.may_start = False
            case Finished():
                self._finish(event)
            case Command():
                answers = [self._obey(event)]
            case Capacity():
                board.room.change(event)
            case Drain():
                board.draining = True
                board.touched |= dict.fromkeys(board.running)
            case Tick():
                pass
        board.settle()
        return [*board.out, *answers]

    def _recall(self, recorded: Recorded) -> None:
        subject = self._present_subject(recorded.key)
        memory = subject.memory
        if memory.success is None and memory.failure is None:
            basis = Basis(recorded.spec_digest, recorded.inputs_digest, pooled(recorded.tools))
            versions = tuple((engine.name, engine.version) for engine in recorded.engines)
            subject.memory = replace(memory, success=Success(basis, (versions,)), engines=recorded.engines)
            subject.is_new = False

    def _present_subject(self, key: str) -> Subject:
        subject = self._board.subjects.get(key)
        if subject is None:
            subject = self._board.subjects[key] = Subject(key)
        if subject.gone:
            self._board.regain(subject)
        return subject

    def _see(self, observed: Observed) -> None:
        board = self._board
        subject = self._present_subject(observed.key)
        if not subject.see(observed):
            return
        board.claim(subject)
        about = basis_of(observed)
        if observed.settled and observed.facts is not None and about != subject.announced:
            if subject.announced is not None or subject.is_new:
                board.tell(subject, "changed", about_change(subject.announced, about))
            subject.announced = about

    def _lose(self, key: str) -> None:
        subject = self._board.subjects.get(key)
        if subject is not None and not subject.gone:
            self._board.lose(subject)

    def _complete_scan(self) -> None:
        board = self._board
        if not board.may_start:
            board.may_start = True
            for subject in board.subjects.values():
                if subject.told is None and not subject.gone:
                    board.lose(subject)
        for key in board.leaving:
            board.subjects[key].gone_for_sure = True
        known = [board.subjects[key] for key in self._distrusted if key in board.subjects]
        self._distrusted = {subject.key for subject in known if subject.count_scan()}
        changed = board.leaving | board.claims.take_crowded() | {subject.key for subject in known}
        board.touched |= dict.fromkeys(sorted(changed))

    def _finish(self, event: Finished) -> None:
        board = self._board
        subject = board.subjects.get(event.key)
        running = subject.running if subject else None
        if subject is None or running is None or running.attempt != event.attempt:
            return
        board.release(subject, running)
        result = absorb(event.key, subject.memory, running, event.outcome, board.now.wall_s, self.timing)
        subject.memory = replace(result.memory, log=event.log or subject.memory.log)
        failure = subject.memory.failure
        if result.succeeded is False and failure is not None:
            subject.retry_mono_s = None if failure.next_try_at is None else board.now.mono_s + failure.delay_s
        for kind, text in about_outcome(subject.name, running, result):
            board.tell(subject, kind, text)
        subject.learn(running, event.outcome)
        if subject.scans_to_trust:
            self._distrusted.add(event.key)

    def _obey(self, command: Command) -> Answer:
        if self._board.draining:
            return _refusal(Problem("registry-busy", "the daemon is ending", "say it again to the next one: trtd run"))
        subject = find(command.name, self._present())
        if isinstance(subject, Problem):
            return _refusal(subject)
        if subject.view is None:
            return _refusal(Problem("registry-busy", "the first scan is not complete", "say it again in a moment"))
        self._board.touched[subject.key] = None
        return obey(command.command, subject, subject.view)

    def _present(self) -> dict[str, Subject]:
        subjects = self._board.subjects
        return {k: s for k, s in subjects.items() if not s.gone} if self._board.leaving else subjects


def _refusal(problem: Problem) -> Answer:
    return Answer(one_line(problem.message), problem)
