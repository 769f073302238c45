"""What a full scan found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trtd.daemon.messages import Observed, Recorded


@dataclass(frozen=True)
class ScanResult:
    """News, and what to look at next.

    Attributes:
        seen: subjects, a spec on a target each, that are new or of which anything changed. Tell those that are ``gone``
            first: a renamed spec is in both, by two keys.
        recorded: what records say of subjects that were not known before. Tell it before ``seen``.
        gone: keys of subjects that are no more.
        next_due_mono_s: when to scan again at the latest; ``None``: whenever the next scan is due anyway.
        folders: what to watch: ``specs/``, ``models/`` (with all that is in it), the registry's root, where either may
            be moved away or replaced, then folders of models and data, those that most specs read first. Real paths,
            each once.
        changed: folders in which something changed since the last scan and a watch should have told so.
        devices: what builds of the specs occupy, as far as is known.
        problem: why ``specs/`` cannot be looked at, in words. Nothing is told then: what was told stands.
    """

    next_due_mono_s: float | None
    folders: tuple[Path, ...]
    devices: frozenset[str]
    seen: list[Observed] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    changed: frozenset[Path] = frozenset()
    problem: str = ""
