"""What a build leaves in the record of each version that it found to be right: what that version was made from.

The state database knows it too, and may be lost at any time. Without this, each spec would then cost a build process
that finds nothing to do, and an upgrade that waits for somebody's word (``rebuild = "ask"``) would not wait.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from trtd.daemon.inputs import InputSet
from trtd.daemon.messages import Outcome
from trtd.daemon.wire import engine_status_from
from trtd.errors import TrtdError
from trtd.registry.layout import EVIDENCE_FILE, Registry
from trtd.registry.note import leave_note
from trtd.status import EngineStatus


@dataclass(frozen=True)
class Evidence:
    """What a version was made from.

    Attributes:
        spec_digest: of the spec's bytes.
        listings: of all that the spec reads, in its order, with their digests.
        tools: as ``Observed.tools``.
    """

    spec_digest: str
    listings: tuple[tuple[InputSet, str], ...]
    tools: tuple[tuple[str, str], ...]


def leave(registry: Registry, seen: Evidence, outcome: Outcome) -> None:
    """Put it beside the live versions, if a build left nothing to do. Where the disk refuses, a build looks again."""
    engines = [engine.status for engine in outcome.engines if engine.failure is None and not engine.unchanged]
    if outcome.failure is not None or len(engines) < len(outcome.engines) or not seen.listings:
        return
    for engine in engines:
        if engine.version is not None:
            data = {"schema_version": 1, "seen": asdict(seen), "engine": asdict(engine)}
            with suppress(TrtdError):
                leave_note(registry, engine.name, engine.version, EVIDENCE_FILE, json.dumps(data).encode())


def find(registry: Registry, versions: Mapping[str, int | None]) -> tuple[Evidence, tuple[EngineStatus, ...]] | None:
    """What was left beside these versions; ``None`` if anything is missing, or they do not agree.

    Args:
        versions: live version of each engine of a spec.
    """
    found: set[Evidence] = set()
    engines = []
    for name, version in versions.items():
        if version is None:
            return None
        try:
            with open(_file(registry, name, version), "rb") as file:
                data = json.loads(file.read())
            found.add(_evidence(data["seen"]))
            engines.append(engine_status_from(data["engine"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
    if len(found) != 1 or [(engine.name, engine.version) for engine in engines] != list(versions.items()):
        return None
    return found.pop(), tuple(engines)


def _file(registry: Registry, name: str, version: int) -> str:
    return f"{registry.records}/{name}/{version}/{EVIDENCE_FILE}"


def _evidence(data: Any) -> Evidence:
    listings = tuple((InputSet(*input_set), str(digest)) for input_set, digest in data["listings"])
    tools = tuple((str(name), str(version)) for name, version in data["tools"])
    return Evidence(str(data["spec_digest"]), listings, tools)
