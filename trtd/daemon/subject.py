"""One spec on one target under reconciliation: what is known of it, what runs for it, and what is to become of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from trtd.daemon.claims import Name
from trtd.daemon.keys import stem_of
from trtd.daemon.memory import Basis, Memory, Versions, basis_of
from trtd.daemon.messages import Observed, Outcome, SpecFacts
from trtd.daemon.needs import NOTHING, Needs, needs_of
from trtd.status import Phase, SubjectStatus

StopReason = Literal["", "cancelled", "at fault", "in conflict", "deleted", "ending"]
Rivals = tuple[tuple[Name, tuple[str, ...], bool], ...]

NEW = Memory()

SCANS_TO_TRUST = 2
"""After a build, the second complete scan began after the build had ended, whatever the first one did."""


@dataclass
class Running:
    """A build process.

    Attributes:
        view: what was believed at its start.
        told_digest: digest of the spec that the scan had told of by then.
        stop: why it is to stop; empty if it is not.
        told: whether ``Stop`` was given out.
        again: somebody said ``retry`` while it was being stopped.
    """

    attempt: int
    view: Observed
    facts: SpecFacts
    told_digest: str
    started_at: float
    reasons: tuple[str, ...]
    stop: StopReason = ""
    told: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a subject.

    Attributes:
        rivals: names that other specs claim too.
        blocker: key of another spec whose build, yet to end, publishes one of this one's engines.
    """

    phase: Phase
    needs: Needs = NOTHING
    rivals: Rivals = ()
    blocker: str | None = None


class Subject:
    """State of one key.

    Attributes:
        told: what the scan said last; ``None`` until it does, and after the spec is gone.
        view: what is believed: ``told``, corrected by what a build found out since.
        retry_mono_s: when a failure of class wait or backoff is over.
        gone: the spec was deleted; it is forgotten once nothing runs and its engines are retired.
        gone_for_sure: and a scan was completed since, so that a new owner of its engines is known.
        is_new: nothing was remembered of it.
        announced: what the last event about a change was about.
        status, saved: as they were last given out to be saved.
        saved_status: digest of the status that a former daemon saved.
    """

    def __init__(self, key: str, memory: Memory = NEW, saved_status: str | None = None) -> None:
        self.key = key
        self.memory = memory
        self.told: Observed | None = None
        self.view: Observed | None = None
        self.scans_to_trust = 0
        self.running: Running | None = None
        self.retry_mono_s: float | None = None
        self.queued_at: float | None = None
        self.gone = False
        self.gone_for_sure = False
        self.is_new = saved_status is None
        self.announced: Basis | None = None
        self.decision = Decision("settling")
        self.status: SubjectStatus | None = None
        self.saved: Memory | None = None if self.is_new else memory
        self.saved_status = saved_status

    @property
    def name(self) -> str:
        """The spec's name on its target; as the file's stem has it where the spec cannot be read."""
        facts = self.facts
        return facts.name if facts else stem_of(self.key)

    @property
    def facts(self) -> SpecFacts | None:
        """What is known of the spec: former facts while its file cannot be judged; ``None`` if it is at fault."""
        if self.view is None or is_unclear(self.view):
            return self.memory.facts
        return self.view.facts

    @property
    def names(self) -> Iterable[Name]:
        """What the spec claims. While its files change, it claims what it did, and keeps alive what it may claim."""
        view, former = self.view, self.memory.facts
        if view is None:
            return ()
        new = view.facts
        if view.settled and new is not None:
            return _claimed(new)
        kept = [Name("kept", engine) for facts in (former, new) if facts for engine, _ in facts.engines]
        stands = not view.settled or is_unclear(view)
        return [*kept, *_claimed(former)] if former is not None and stands else kept

    def see(self, told: Observed) -> bool:
        """Take in what the scan said. Gives whether it is news.

        What differs from what the scan said before is news; what does not may be older than what a build found out.
        """
        if told == self.told:
            return False
        view = told
        if self.scans_to_trust and self.told is not None and self.view is not None:
            if told.spec_digest == self.told.spec_digest:
                view = replace(view, spec_digest=self.view.spec_digest)
            if told.versions == self.told.versions:
                view = replace(view, versions=self.view.versions)
        self.told, self.view = told, view
        if told.settled and told.facts is not None and told.facts != self.memory.facts:
            self.memory = replace(self.memory, facts=told.facts)
        return True

    def learn(self, running: Running, outcome: Outcome) -> None:
        """Take in what a build found out about what is there; the scan tells later, if it has not already."""
        if self.told is None or self.view is None:
            return
        overtaken = bool(outcome.spec_digest) and self.told.spec_digest == running.told_digest
        digest = outcome.spec_digest if overtaken else self.view.spec_digest
        self.view = replace(self.told, spec_digest=digest, versions=_live_after(self.view.versions, outcome))
        self.scans_to_trust = SCANS_TO_TRUST if self.view != self.told else 0

    def count_scan(self) -> bool:
        """A full scan has passed. Gives whether to go on counting; the scan's word holds from then on."""
        self.scans_to_trust = max(self.scans_to_trust - 1, 0)
        if not self.scans_to_trust:
            self.view = self.told
        return self.scans_to_trust > 0


def is_unclear(view: Observed) -> bool:
    """Whether the spec may be as good as it was: its file is being changed, or cannot be read just now."""
    return view.facts is None and (not view.settled or (view.fault is not None and view.fault.retry != "never"))


def _live_after(versions: Versions, outcome: Outcome) -> Versions:
    """What is live after a build, as far as the build knew; of engines that failed it may not know."""
    known = {
        e.status.name: e.status.version for e in outcome.engines if e.failure is None or e.status.version is not None
    }
    return tuple((name, known.get(name, version)) for name, version in versions)


def _claimed(facts: SpecFacts) -> list[Name]:
    return [Name("spec", facts.name), *(Name("engine", engine) for engine, _ in facts.engines)]


def decide(subject: Subject, view: Observed, rivals: Rivals, blocker: str | None, mono_s: float) -> Decision:
    """What is to become of a subject that the scan has told of.

    From the strongest to the weakest: at fault, in conflict, being built, paused, settling; then whether anything must
    be built at all, and whether the last failure, if it was with what is there now, forbids it.
    """
    needs = needs_of(view, subject.memory) if view.facts is not None else NOTHING

    def phase() -> Phase:
        if view.facts is None and view.settled and not (subject.running is not None and is_unclear(view)):
            return "invalid"
        if rivals:
            return "conflict"
        if subject.running is not None:
            return "building"
        if subject.memory.paused:
            return "paused"
        if not view.settled:
            return "settling"
        held = None if subject.memory.asked else _held(subject, view, needs, mono_s)
        return held or ("waiting" if blocker else "queued")

    return Decision(phase(), needs, rivals, blocker)


def _held(subject: Subject, view: Observed, needs: Needs, mono_s: float) -> Phase | None:
    """The phase of what is not to be built now; ``None`` if it is."""
    failure, basis = subject.memory.failure, basis_of(view)
    if not needs.reasons:
        return "ready"
    if failure is not None and failure.kind == "cancelled" and failure.basis.same_bytes(basis):
        return "stalled"
    if failure is not None and failure.basis == basis:
        if failure.kind == "never":
            return "stalled"
        if subject.retry_mono_s is not None and subject.retry_mono_s > mono_s:
            return "waiting" if failure.kind == "wait" else "backoff"
    ask = view.facts is not None and view.facts.rebuild == "ask"
    if needs.stale and ask and subject.memory.approved != view.tools:
        return "stale"
    return None
