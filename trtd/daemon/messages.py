"""What goes into the reconciler and what comes out: the whole interface between deciding and doing.

Everything here is plain and immutable. Times are ``Now``: the reconciler has no clock of its own. ``mono_s`` decides
(it never jumps), ``wall_s`` is only written down for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trtd.errors import Retry
from trtd.status import EngineStatus, Event, Problem, SubjectStatus

CommandName = Literal["pause", "resume", "retry", "cancel"]


@dataclass(frozen=True)
class Now:
    """``mono_s``: seconds of a clock that only goes forward; ``wall_s``: seconds since the epoch."""

    mono_s: float
    wall_s: float


# ---------------------------------------------------------------------------------------------------- observations


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """What reconciling needs to know of a valid spec on one of its targets.

    Attributes:
        name: ``det``, or ``det-tensorrt`` for one of several targets.
        engines: registry names of the engines that it publishes, with their precisions.
        device: what a build occupies: ``cpu``, or the UUID of a GPU.
        capabilities: compute capabilities that the spec names.
        memory_bytes: what a build is counted as taking; ``None``: the operator's default.
    """

    name: str
    engines: tuple[tuple[str, str], ...]
    target: str
    device: str = "cpu"
    priority: int = 0
    rebuild: Literal["auto", "ask"] = "auto"
    on_delete: Literal["keep", "unpublish"] = "keep"
    memory_bytes: int | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something could not be done, and what that means for trying again."""

    problem: Problem
    retry: Retry


@dataclass(frozen=True, slots=True)
class Observed:
    """One spec on one target as the last scan found it.

    Attributes:
        key: of the subject: see :mod:`trtd.daemon.keys`.
        spec_digest: of its bytes.
        inputs_digest: of a *listing* (name, size, mtime, inode) of its model's and data's files. When it changes, a
            build process looks at the bytes; it builds only if those changed too.
        tools: versions and device facts that engines of this target depend on.
        versions: live version of each engine; ``None``: nothing is published.
        facts: ``None`` if the spec is at fault, and ``fault`` says how; or before it has settled for the first time.
        settled: whether all its files have been still for the settle time.
    """

    key: str
    spec_digest: str
    facts: SpecFacts | None
    fault: Failure | None = None
    inputs_digest: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, int | None], ...] = ()
    settled: bool = True


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Seen:
    """A spec is there, new or changed in any of what ``Observed`` holds. Unchanged ones need not be told again."""

    observed: Observed


@dataclass(frozen=True)
class Recorded:
    """What the records of a spec's live versions say, told before ``Seen`` of a spec that was not known before.

    It counts where no build is remembered: the state database was lost, or the spec has another file's engines.

    Attributes:
        spec_digest, inputs_digest, tools: as in ``Observed``: what a build, the last one, found them to be right for.
        engines: the live versions, and how they did.
    """

    key: str
    spec_digest: str
    inputs_digest: str
    tools: tuple[tuple[str, str], ...]
    engines: tuple[EngineStatus, ...]


@dataclass(frozen=True)
class Gone:
    """A spec is not there any more, or asks for this target no more."""

    key: str


@dataclass(frozen=True)
class Scanned:
    """A full scan is complete: everything that differs from the scan before has been told.

    Until the first one, nothing is started: whether a name is in conflict is not known yet.
    """


@dataclass(frozen=True)
class Blind:
    """``specs/`` cannot be looked at: what was told stands, and nothing is started until the next ``Scanned``."""


@dataclass(frozen=True)
class EngineOutcome:
    """What became of one engine in a build.

    Attributes:
        plan_digest: of its BuildPlan; empty if there is none.
        built: False if what is published was up to date.
        failure: why nothing was published.
        unchanged: the plan is one of ``Start.stalled_plans``: nothing was tried, the old failure stands.
    """

    status: EngineStatus
    plan_digest: str
    built: bool
    failure: Failure | None = None
    unchanged: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a build.

    Attributes:
        spec_digest: of the bytes that the build read, which may be newer than those that were seen; empty if unknown.
        engines: one for each precision; empty if nothing could begin.
        failure: why nothing could begin, or how the process died.
    """

    spec_digest: str
    engines: tuple[EngineOutcome, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Finished:
    """The build process of ``attempt`` has ended, however it did, and nothing of it runs any more."""

    key: str
    attempt: int
    outcome: Outcome
    log: str | None = None


@dataclass(frozen=True)
class Command:
    """Somebody wants something. ``name`` is a key, a spec's name or an engine's name."""

    command: CommandName
    name: str


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class Capacity:
    """What builds may take: event when the operator's configuration is (re)loaded.

    Attributes:
        slots: how many builds may run at a time on each device, by device; what is not named has 1.
        memory_bytes: all builds together; one that wants more than all may run alone.
        build_memory_bytes: what a build is counted as taking where its spec says nothing.
    """

    slots: tuple[tuple[str, int], ...]
    memory_bytes: int
    build_memory_bytes: int


@dataclass(frozen=True)
class Drain:
    """The daemon is to end: start nothing any more, stop what runs."""


InEvent = Recorded | Seen | Gone | Scanned | Blind | Finished | Command | Tick | Capacity | Drain


# ---------------------------------------------------------------------------------------------------- instructions


@dataclass(frozen=True)
class Start:
    """Start a build process; tell ``Finished`` when it has ended.

    Attributes:
        attempt: number of this build, unique in the life of the daemon.
        reasons: why, for the log.
        stalled_plans: digests of plans that failed in a way that trying again cannot mend.
    """

    key: str
    attempt: int
    device: str
    reasons: tuple[str, ...]
    stalled_plans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stop:
    """Stop a build process; ``Finished`` follows all the same."""

    key: str
    attempt: int


@dataclass(frozen=True)
class Unpublish:
    """Take engines out of ``engines/``; their records stay."""

    engines: tuple[str, ...]


@dataclass(frozen=True)
class Save:
    """Write down what is known about a subject.

    Attributes:
        memory: JSON that :meth:`Reconciler.restore` understands.
    """

    status: SubjectStatus
    memory: str = field(repr=False)


@dataclass(frozen=True)
class Forget:
    """A subject is no more."""

    key: str


@dataclass(frozen=True)
class Tell:
    """Something worth telling: goes to the log, the events, the hooks and the metrics."""

    event: Event


@dataclass(frozen=True)
class Answer:
    """What to tell who gave a ``Command``. ``problem`` if it could not be done."""

    text: str
    problem: Problem | None = None


Instruction = Start | Stop | Unpublish | Save | Forget | Tell | Answer
