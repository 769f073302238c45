"""What must hold in the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.lives import Lives
from benchmarks.soak.world import BUILT_FOR_REAL, World
from trtd.daemon.client import ask
from trtd.daemon.messages import CommandName
from trtd.daemon.snapshot import read_snapshot
from trtd.errors import TrtdError
from trtd.registry.layout import MANIFEST_FILE, PENDING_FILE, RETIRED_FILE, Registry
from trtd.registry.manifest import verify_files

PATIENCE_S = 300.0
RESTING = {"ready", "stalled"}
RESUMING: tuple[CommandName, ...] = ("resume", "retry")
NEVER = (
    "bad reads",
    "orphan processes",
    "orphaned staging folders",
    "torn versions",
    "missing versions",
    "engines other than their specs say",
    "builds of what was published already",
    "finished stages that ran again",
    "daemons that did not start, died or did not end well",
)


@dataclass
class Verdict:
    """Attributes:
    rows: what was done and what was found, in order.
    words: about what must not be, for people.
    """

    rows: dict[str, int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not any(self.rows[row] for row in NEVER)


def come_to_rest(world: World, lives: Lives) -> None:
    """Let a daemon without faults finish all there is, and end it."""
    world.tidy_up()
    if not lives.start():
        raise SystemExit(f"the last daemon did not start; its log: {lives.log}")
    names = [subject.key for subject in read_snapshot(world.registry).subjects]
    for name in names:
        for command in RESUMING:
            with suppress(TrtdError):
                ask(world.registry, command, name)
    give_up_s, still_since_s = time.monotonic() + PATIENCE_S, time.monotonic()
    while time.monotonic() - still_since_s < 3.0:
        phases = Counter(subject.phase for subject in read_snapshot(world.registry).subjects)
        if set(phases) - RESTING:
            still_since_s = time.monotonic()
        if time.monotonic() > give_up_s:
            raise SystemExit(f"it never comes to rest: {dict(phases)}; its log: {lives.log}")
        time.sleep(0.1)
    lives.drain()


def judge(world: World, lives: Lives, read: dict[str, Any]) -> Verdict:
    """Look at everything once nothing runs any more.

    Args:
        read: what the reader saw.
    """
    registry, counts, verdict = world.registry, lives.counts, Verdict()
    reads: Counter[str] = Counter(read["counts"])
    verdict.words += read["faults"]
    torn, missing, repeated = _versions(registry, verdict.words)
    again = _stages_again(lives)
    log = lives.log.read_text(errors="replace")
    verdict.rows = {
        "daemons killed with kill -9": counts["daemons killed"] + counts["daemons killed at a failpoint"],
        "build processes and stages killed with kill -9": counts["workers killed"],
        "daemons ended by SIGTERM": counts["daemons ended by SIGTERM"],
        "daemons on a disk that refuses at one step": counts["daemons on a refusing disk"],
        "daemons that die, or whose builds do, at one step": counts["daemons with a failpoint that kills"],
        "steps at which that was tried": len(lives.used),
        "failures that were told": log.count('"event": "failed"'),
        "watch overflows that a scan made good": counts["watch overflows"],
        **{f"{what}": number for what, number in sorted(world.done.items())},
        "builds": log.count('"event": "started"'),
        "engines published": log.count('"event": "published"'),
        "versions on record": sum(len(registry.recorded_versions(name)) for name in registry.recorded_names()),
        "versions read and hashed": reads["good"],
        "reads overtaken by a version's removal": reads["overtaken"],
        "bad reads": reads["bad"],
        "orphan processes": counts["orphans"] + len(lives.workers()),
        "orphaned staging folders": sum(1 for _ in registry.staging.iterdir()),
        "torn versions": torn,
        "missing versions": missing,
        "engines other than their specs say": _other_engines(world, verdict.words),
        "builds of what was published already": repeated,
        "finished stages that ran again": again,
        "daemons that did not start, died or did not end well": sum(
            counts[how] for how in ("daemons that did not start", "daemons that died", "daemons that did not end well")
        ),
    }
    return verdict


def _versions(registry: Registry, words: list[str]) -> tuple[int, int, int]:
    """How many versions are torn, are missing, and are the one before once more."""
    torn = missing = repeated = 0
    for name in registry.recorded_names():
        before, published = "", set(registry.versions(name))
        for version in registry.recorded_versions(name):
            record = registry.record(name, version)
            if not (record / MANIFEST_FILE).is_file() or (record / PENDING_FILE).exists():
                words.append(f"the record of {name}@{version} is not whole")
                torn += 1
                continue
            digest = json.loads((record / MANIFEST_FILE).read_bytes())["build_digest"]
            if digest == before:
                words.append(f"{name}@{version} is the version before once more")
                repeated += 1
            before = digest
            if version not in published and not (record / RETIRED_FILE).exists():
                words.append(f"{name}@{version} is missing")
                missing += 1
            elif version in published:
                try:
                    verify_files(registry, name, version)
                except TrtdError as error:
                    words.append(str(error))
                    torn += 1
        if published - set(registry.recorded_versions(name)):
            words.append(f"{name} has versions without a record")
            torn += 1
    return torn, missing, repeated


def _other_engines(world: World, words: list[str]) -> int:
    registry, others = world.registry, 0
    for name, content in world.wanted().items():
        version = registry.latest(name)
        if version is None or (registry.engine(name, version) / "model.onnx").read_bytes() != content:
            words.append(f"{name}@{version} is not what its spec says")
            others += 1
    for name in BUILT_FOR_REAL:
        if registry.latest(name) is None:
            words.append(f"{name} was never built")
            others += 1
    return others


def _stages_again(lives: Lives) -> int:
    """Stages that were begun although their output was in the store."""
    done, again = set(), 0
    for line in lives.ledger.read_text().splitlines():
        what, _, key = line.partition(" ")
        if what == "done":
            done.add(key)
        again += what == "start" and key in done
    return again
