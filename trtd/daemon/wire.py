"""What the daemon and its build processes say to each other, as JSON.

The daemon writes a :class:`BuilderJob` into a file. The builder answers on a pipe, one object a line::

    {"event": "spec", "digest": "sha256:…"}
    {"event": "log", "engine": "det-int8", "path": "…"}
    {"event": "stage", "engine": "det-int8", "stage": "convert", "state": "started"}
    {"event": "progress", "engine": "det-int8", "stage": "convert", "done": 3, "total": 8, "note": ""}
    {"event": "stage", "engine": "det-int8", "stage": "convert", "state": "finished", "seconds": 1.5, "cached": false}
    {"event": "outcome", "outcome": {…}}

States of a stage are ``started``, ``finished`` and ``failed``. The outcome comes last.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from trtd.daemon.inputs import InputSet
from trtd.daemon.messages import EngineOutcome, Failure, Outcome
from trtd.errors import Retry, TrtdError
from trtd.pipeline.log import clean
from trtd.status import EngineStatus, Problem

LONGEST_TEXT = 16384
"""Characters of a message; a compiler's may be megabytes."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class BuilderJob:
    """One build as its process is told of it. What is ``None`` is left to the spec and the environment.

    Attributes:
        spec: the spec file, absolute.
        part: the target to build for, of those that the spec lists; empty if it names one as text.
        registry: the registry's root.
        deadline_s: for the whole build; the daemon keeps it.
        stage_deadline_s: most that one stage may take, whatever the spec says.
        memory_limit_bytes: of the build's control group or, where there is none, of each stage's process.
        roots: the only folders beside the registry that the spec may read.
        hooks_allowed: whether the spec may run Python of its own.
        unverified_allowed: whether the spec may publish what could not be verified.
        threads: CPU threads; 0: all.
        stalled_plans: digests of plans that shall not be tried again.
        listings, tools: what the daemon had seen when it started the build, for :mod:`trtd.daemon.evidence`.
    """

    spec: Path
    registry: Path
    part: str = ""
    deadline_s: float | None = None
    stage_deadline_s: float | None = None
    memory_limit_bytes: int | None = None
    roots: tuple[Path, ...] | None = None
    hooks_allowed: bool | None = None
    unverified_allowed: bool = True
    threads: int = 0
    stalled_plans: tuple[str, ...] = ()
    listings: tuple[tuple[InputSet, str], ...] = ()
    tools: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> bytes:
        """As a file. Names that are not UTF-8 survive."""
        return json.dumps(asdict(self), indent=1, default=str).encode()

    @classmethod
    def from_json(cls, data: bytes) -> BuilderJob:
        values = json.loads(data)
        roots = values["roots"]
        return cls(
            **values
            | {
                "spec": Path(values["spec"]),
                "registry": Path(values["registry"]),
                "roots": None if roots is None else tuple(map(Path, roots)),
                "stalled_plans": tuple(values["stalled_plans"]),
                "listings": tuple((InputSet(*input_set), digest) for input_set, digest in values["listings"]),
                "tools": tuple((name, version) for name, version in values["tools"]),
            }
        )


def as_failure(error: TrtdError) -> Failure:
    """An error as the reconciler takes it, fit to be shown: nothing in it moves a cursor, and it has an end."""
    return Failure(
        Problem(error.code, *(clean(text)[:LONGEST_TEXT] for text in (error.message, error.hint, error.where))),
        error.retry,
    )


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain data; :func:`outcome_from` is the inverse."""
    data = asdict(outcome)
    return data | {"engines": list(data["engines"])}


def outcome_from(data: Any) -> Outcome:
    """The outcome that a builder told. Raises ``ValueError`` if it is none."""
    try:
        return Outcome(
            spec_digest=_as(str, data["spec_digest"]),
            engines=tuple(map(_engine, _as(list, data["engines"]))),
            failure=_maybe(_failure, data["failure"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no outcome of a build: {type(error).__name__}: {error}") from error


def engine_status_from(data: Any) -> EngineStatus:
    """How an engine did, from plain data. Raises ``KeyError`` or ``TypeError`` if it says something else."""
    return EngineStatus(
        name=_as(str, data["name"]),
        precision=_as(str, data["precision"]),
        version=_maybe(_whole, data["version"]),
        cosine=_maybe(_number, data["cosine"]),
        sqnr_db=_maybe(_number, data["sqnr_db"]),
        speedup=_maybe(_number, data["speedup"]),
        engine_bytes=_maybe(_whole, data["engine_bytes"]),
        fp32_bytes=_maybe(_whole, data["fp32_bytes"]),
        published_at=_maybe(_number, data["published_at"]),
    )


def _engine(data: Any) -> EngineOutcome:
    return EngineOutcome(
        status=engine_status_from(data["status"]),
        plan_digest=_as(str, data["plan_digest"]),
        built=_as(bool, data["built"]),
        failure=_maybe(_failure, data["failure"]),
        unchanged=_as(bool, data["unchanged"]),
    )


def _failure(data: Any) -> Failure:
    problem, retry = data["problem"], data["retry"]
    if retry not in get_args(Retry):
        raise TypeError(f"retry is {retry!r}")
    return Failure(Problem(**{key: _as(str, problem[key]) for key in ("code", "message", "hint", "where")}), retry)


def _maybe(make: Callable[[Any], Made], value: Any) -> Made | None:
    return None if value is None else make(value)


def _as(kind: type[Made], value: Any) -> Made:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.80} is no {kind.__name__}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.80} is no whole number")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.80} is no number")
    return float(value)
