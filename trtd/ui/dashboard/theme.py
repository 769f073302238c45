"""What signs and colours mean, everywhere in the dashboard. Colour carries meaning; what is well is quiet."""

from __future__ import annotations

from typing import Literal

from trtd.status import EventKind, Phase

Group = Literal["needs", "working", "waiting", "paused", "ready"]

RED, CYAN, YELLOW, GREEN, QUIET = "red", "cyan", "yellow", "green", "dim"
BOLD = "bold"
FRAME = "dim"

GROUPS: dict[Group, tuple[Phase, ...]] = {
    "needs": ("stalled", "invalid", "conflict", "stale"),
    "working": ("building",),
    "waiting": ("queued", "backoff", "waiting", "settling"),
    "paused": ("paused",),
    "ready": ("ready",),
}
"""What needs a person comes first."""

STYLE: dict[Group, str] = {"needs": RED, "working": CYAN, "waiting": YELLOW, "paused": QUIET, "ready": GREEN}
WORDS: dict[Group, str] = {
    "needs": "need you", "working": "building", "waiting": "waiting", "paused": "paused", "ready": "ready"
}  # fmt: skip

GROUP: dict[Phase, Group] = {phase: group for group, phases in GROUPS.items() for phase in phases}
RANK: dict[Phase, int] = {phase: rank for rank, phase in enumerate(GROUP)}

SIGN: dict[Phase, str] = {
    "stalled": "✗",
    "invalid": "✗",
    "conflict": "✗",
    "stale": "▲",
    "building": "●",
    "queued": "○",
    "settling": "○",
    "waiting": "○",
    "backoff": "↻",
    "paused": "□",
    "ready": "✓",
}

EVENT: dict[EventKind, tuple[str, str]] = {
    "published": ("✓", GREEN),
    "up-to-date": ("·", QUIET),
    "failed": ("✗", RED),
    "stale": ("▲", RED),
    "started": ("●", CYAN),
    "stopped": ("□", QUIET),
    "changed": ("·", QUIET),
    "removed": ("·", QUIET),
    "daemon": ("◆", QUIET),
}


def group_of(phase: str) -> Group:
    """The group of a phase; a phase of a later version of trtd counts as waiting."""
    return GROUP.get(phase, "waiting")  # type: ignore[call-overload, no-any-return]


def phase_style(phase: str) -> str:
    return STYLE[group_of(phase)]


def phase_sign(phase: str) -> str:
    return SIGN.get(phase, "○")  # type: ignore[call-overload, no-any-return]


def event_sign(kind: str) -> tuple[str, str]:
    return EVENT.get(kind, ("·", QUIET))  # type: ignore[call-overload, no-any-return]
