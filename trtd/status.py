"""What the daemon tells about itself: plain data that it writes, the state database keeps and the dashboard draws.

Times are seconds since the epoch (wall clock), for people; nothing is decided by them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Phase = Literal[
    "settling",  # its files are still changing
    "queued",
    "building",
    "ready",  # what is published is what the spec asks for
    "stale",  # published, but out of date; waits for `trtd retry` because rebuild = "ask"
    "waiting",  # for something outside: a lock, a package, a device
    "backoff",  # failed, will be tried again
    "stalled",  # failed, will not be tried again until its bytes change or somebody says `trtd retry`
    "invalid",  # the spec itself is at fault
    "conflict",  # another spec claims the same engine name
    "paused",
]
PHASES: tuple[Phase, ...] = (
    "building", "queued", "settling", "backoff", "waiting", "stalled", "invalid", "conflict", "stale", "paused", "ready"
)  # fmt: skip

ConditionType = Literal["SpecValid", "Settled", "Building", "Published", "Fresh", "Stalled", "Ready"]
EventKind = Literal["published", "up-to-date", "failed", "stale", "started", "stopped", "changed", "removed", "daemon"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One fact about a subject, in the manner of Kubernetes' conditions.

    Attributes:
        status: ``None`` is "unknown".
        reason: one CamelCase word for programs: ``BackingOff``, ``DuplicateName``, ``GateMissed``.
        message: one sentence for people.
        since: when ``status`` last changed.
    """

    type: ConditionType
    status: bool | None
    reason: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A :class:`trtd.errors.TrtdError` as plain data."""

    code: str
    message: str
    hint: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine of a subject, and how its live version did.

    Attributes:
        version: live in the registry; ``None`` if nothing is published.
        cosine, sqnr_db: the worst over all outputs; ``None`` if not measured.
        speedup: over FP32 on the same target.
    """

    name: str
    precision: str
    version: int | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    speedup: float | None = None
    engine_bytes: int | None = None
    fp32_bytes: int | None = None
    published_at: float | None = None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Where a running build is.

    Attributes:
        done, total: units of the stage; ``total`` is ``None`` while nobody knows.
        finished: the engine's stages that are over: name, seconds, whether the store had it.
    """

    engine: str
    stage: str
    started_at: float
    done: int = 0
    total: int | None = None
    note: str = ""
    finished: tuple[tuple[str, float, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectStatus:
    """One spec on one target.

    Attributes:
        key: the spec file's name in ``specs/``, bytes that are not UTF-8 written out as ``\\xff``; for one of a list of
            targets with the target behind it, ``det.toml#tensorrt``.
        name: the spec's name, ``det-tensorrt`` for one of several targets; as the file's stem has it where the spec
            cannot be read.
        failures: in a row, since the last success.
        queued_at, started_at, next_try_at: set in the phases that they belong to.
        reasons: why it is, or will be, built.
        log: path of the running or last build's log.
    """

    key: str
    name: str
    target: str
    phase: Phase
    conditions: tuple[Condition, ...] = ()
    engines: tuple[EngineStatus, ...] = ()
    priority: int = 0
    failures: int = 0
    queued_at: float | None = None
    started_at: float | None = None
    next_try_at: float | None = None
    reasons: tuple[str, ...] = ()
    problem: Problem | None = None
    log: str | None = None

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status is True for c in self.conditions)


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """How changes of one folder are noticed. ``reason`` says why it is polled, if it is."""

    folder: str
    mode: Literal["events", "polling"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """``cpu``, or a GPU by its UUID, and how many builds run on it now, of how many that may."""

    id: str
    name: str
    running: int
    slots: int


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon itself.

    Attributes:
        started_ticks: of its process, to tell it from a later one with the same number.
        scan_s: duration of the last full scan.
        overflows: changes that a scan found and no event had announced.
        degraded: what does not work as it should, in words; empty if all is well.
    """

    pid: int
    started_ticks: int
    version: str
    registry: str
    started_at: float
    last_scan_at: float | None = None
    scan_s: float = 0.0
    scans: int = 0
    overflows: int = 0
    watches: tuple[WatchStatus, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``subject`` is a key, or empty for the daemon itself."""

    at: float
    kind: EventKind
    subject: str
    name: str
    text: str
    id: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, as of one moment.

    Attributes:
        daemon: as it last described itself; ``None`` if none has ever run here.
        alive: whether that process still runs.
        subjects: ordered by name, then key.
        live: of the subjects that are building, by key.
        events: newest last.
    """

    daemon: DaemonStatus | None
    alive: bool
    subjects: tuple[SubjectStatus, ...] = ()
    live: dict[str, StageStatus] | None = None
    events: tuple[Event, ...] = ()


def file_of(key: str) -> str:
    """The spec file of a subject: ``det.toml`` for ``det.toml`` and for ``det.toml#tensorrt``."""
    head, mark, _ = key.rpartition(".toml#")
    return key if key.endswith(".toml") or not mark else f"{head}.toml"


def to_data(record: Any) -> dict[str, Any]:
    """A record of this module as plain data, fit for JSON; the ``*_from`` functions are the inverses."""
    return asdict(record)


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a record with slots, as they are: ``asdict`` copies all of it, and takes ten times longer."""
    return {name: getattr(record, name) for name in record.__slots__}


def condition_from(data: dict[str, Any]) -> Condition:
    return Condition(**data)


def subject_from(data: dict[str, Any]) -> SubjectStatus:
    return SubjectStatus(
        **data
        | {
            "conditions": tuple(map(condition_from, data["conditions"])),
            "engines": tuple(EngineStatus(**engine) for engine in data["engines"]),
            "reasons": tuple(data["reasons"]),
            "problem": Problem(**data["problem"]) if data["problem"] else None,
        }
    )


def stage_from(data: dict[str, Any]) -> StageStatus:
    return StageStatus(**data | {"finished": tuple((n, s, c) for n, s, c in data["finished"])})


def daemon_from(data: dict[str, Any]) -> DaemonStatus:
    return DaemonStatus(
        **data
        | {
            "watches": tuple(WatchStatus(**watch) for watch in data["watches"]),
            "devices": tuple(DeviceStatus(**device) for device in data["devices"]),
            "degraded": tuple(data["degraded"]),
        }
    )


def event_from(data: dict[str, Any]) -> Event:
    return Event(**data)
