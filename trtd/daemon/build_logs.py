"""Where builds write their logs, and how long these stay."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trtd.daemon.keys import stem_of
from trtd.registry.layout import Registry

KEPT = 5
"""Logs of failed builds that stay for each engine."""

_LONGEST = 60


@dataclass(frozen=True)
class BuilderFiles:
    """Files of a subject's build process: what it and Python print, and its job. The next build replaces them."""

    log: Path

    @classmethod
    def of(cls, registry: Registry, key: str) -> BuilderFiles:
        # Keys may be 255 bytes of anything, and different keys must not share a file.
        readable = re.sub(r"[^A-Za-z0-9._-]", "_", stem_of(key))[:_LONGEST]
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return cls(registry.logs / f"builder-{readable}.{digest}.log")  # no engine's log ends like that

    @property
    def job(self) -> Path:
        return self.log.with_suffix(".job.json")


def prune(registry: Registry, name: str, kept: int = KEPT) -> None:
    """Remove the logs of an engine's builds, all but the newest, with the jobs kept beside them.

    Builds that are published have none: theirs is in the version's record.
    """
    found: list[tuple[int, int, Path]] = []
    pattern = re.compile(re.escape(name) + r"-(\d+)\.log")
    with suppress(OSError), os.scandir(registry.logs) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match is not None:
                found.append((entry.stat().st_mtime_ns, int(match[1]), Path(entry.path)))
    for _, pid, log in sorted(found)[: max(0, len(found) - kept)]:
        if not Path(f"/proc/{pid}").exists():  # it may be writing still
            for file in (log, log.with_name(f"{name}-{pid}.job.json")):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
