"""What is remembered of a subject over a restart of the daemon, and its JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, TypeAdapter
from pydantic_core import to_json

from trtd.daemon.messages import Observed, SpecFacts
from trtd.errors import Retry
from trtd.status import ConditionType, EngineStatus, Problem


def pooled(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """One and the same object for all that are equal: thousands of subjects were built with the same tools."""
    return _POOL.setdefault(pairs, pairs)


_POOL: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
Pairs = Annotated[tuple[tuple[str, str], ...], AfterValidator(pooled)]
Versions = tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a build was made from, as far as the daemon can tell."""

    spec_digest: str
    inputs_digest: str
    tools: Pairs

    def same_bytes(self, other: Basis) -> bool:
        """Whether spec, model and data are the same; tools may differ."""
        return (self.spec_digest, self.inputs_digest) == (other.spec_digest, other.inputs_digest)

    def same_but_inputs(self, other: Basis) -> bool:
        """Whether spec and tools are the same; the listing of model and data may differ."""
        return (self.spec_digest, self.tools) == (other.spec_digest, other.tools)


def basis_of(observed: Observed) -> Basis:
    return Basis(observed.spec_digest, observed.inputs_digest, observed.tools)


@dataclass(frozen=True, slots=True)
class Success:
    """The last build that left nothing to do.

    Attributes:
        versions: live versions under which there is nothing to do. Two sets of them, if a build found nothing to do
            although it was told of others than it saw: without the second one, such a difference would start builds
            for ever.
    """

    basis: Basis
    versions: tuple[Versions, ...]

    def fits(self, versions: Versions) -> bool:
        return any(set(versions) <= set(accepted) for accepted in self.versions)


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last build that did not succeed; it holds while what would be built is ``basis``.

    Attributes:
        kind: ``cancelled``: somebody said so.
        delay_s, next_try_at: for ``wait`` and ``backoff``; the latter in seconds since the epoch.
    """

    kind: Retry | Literal["cancelled"]
    problem: Problem
    basis: Basis
    delay_s: float = 0.0
    next_try_at: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Attributes:
    facts: of the last valid and settled observation.
    failures, backoffs: in a row since the last success: all of them, and those of class ``backoff``, which alone double
        the delay.
    stalled_plans: digests of plans that cannot succeed as they are, and why.
    asked: somebody said ``retry`` and no build has ended since.
    approved: tools that a spec with ``rebuild = "ask"`` may be built with, since somebody said ``retry``.
    engines: how the versions did that this subject published last.
    since: when the status of each condition last changed, and to what.
    told: the state that was last told in an event and is not to be told again.
    log: of the last build.
    """

    facts: SpecFacts | None = None
    success: Success | None = None
    failure: LastFailure | None = None
    failures: int = 0
    backoffs: int = 0
    stalled_plans: tuple[tuple[str, Problem], ...] = ()
    asked: bool = False
    approved: Pairs | None = None
    paused: bool = False
    engines: tuple[EngineStatus, ...] = ()
    since: tuple[tuple[ConditionType, bool | None, float], ...] = ()
    told: str = ""
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What is written. ``status``: a digest of the status that was saved with it, to save no equal one again."""

    memory: Memory
    status: str = ""


_READER = TypeAdapter(Saved)


def write(saved: Saved) -> str:
    """As JSON. Infinity and NaN pass (an exact engine has an infinite SQNR), lone surrogates become question marks."""
    try:
        return to_json(saved, inf_nan_mode="constants").decode()
    except ValueError:  # lone surrogates: names of files that are not UTF-8, in somebody's message
        return json.dumps(asdict(saved), ensure_ascii=False).encode("utf-8", "replace").decode()


def read(text: str) -> Saved | None:
    """The inverse of :func:`write`; ``None`` for what it did not write."""
    try:
        return _READER.validate_json(text)
    except (ValueError, TypeError, RecursionError):  # pydantic's ValidationError is a ValueError
        return None
