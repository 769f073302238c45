"""What builds leave in records for a daemon whose state database was lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.driver import TOOLS, Driver, engine, failure, observed, of, started
from tests.daemon.scene import Scene
from trtd.daemon.evidence import Evidence, find, leave
from trtd.daemon.inputs import InputSet
from trtd.daemon.messages import EngineOutcome, Outcome, Recorded, Scanned, Seen, Start
from trtd.registry.layout import EVIDENCE_FILE, Registry
from trtd.store.failpoint import VARIABLE

SEEN = Evidence("sha256:spec", ((InputSet("data", "../da\udcffta"), "1" * 64),), TOOLS)
INT8, FP32 = engine("net-int8", 3, "int8", cosine=0.99), engine("net-fp32", 1, "fp32", sqnr_db=math.inf)
GOOD = Outcome("sha256:spec", (EngineOutcome(INT8, "plan", True), EngineOutcome(FP32, "plan", False)))
LIVE = {"net-int8": 3, "net-fp32": 1}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry")
    made.init()
    for name, version in LIVE.items():
        made.record(name, version).mkdir(parents=True)
    return made


def evidence_files(registry: Registry) -> list[Path]:
    return list(registry.records.glob(f"**/{EVIDENCE_FILE}"))


def test_what_was_left_is_found(registry: Registry) -> None:
    """Each loss of the state database would cost a build process for every spec."""
    leave(registry, SEEN, GOOD)
    assert find(registry, LIVE) == (SEEN, (INT8, FP32))
    newer = replace(SEEN, spec_digest="sha256:other")
    leave(registry, newer, GOOD)
    assert find(registry, LIVE) == (newer, (INT8, FP32))


@pytest.mark.parametrize(
    "outcome",
    [
        replace(GOOD, failure=failure("backoff")),
        replace(GOOD, engines=(GOOD.engines[0], replace(GOOD.engines[1], failure=failure("never")))),
        replace(GOOD, engines=(GOOD.engines[0], replace(GOOD.engines[1], unchanged=True))),
        replace(GOOD, engines=()),
    ],
    ids=["failed", "half", "unchanged", "nothing"],
)
def test_only_what_is_right_is_left(registry: Registry, outcome: Outcome) -> None:
    """What failed would be called ready once the state database is lost."""
    leave(registry, SEEN, outcome)
    assert evidence_files(registry) == []


def test_what_was_still_changing_proves_nothing(registry: Registry) -> None:
    """Without listings, everything that follows would be taken for what was built."""
    leave(registry, replace(SEEN, listings=()), GOOD)
    assert evidence_files(registry) == []


def test_a_disk_that_refuses_costs_the_evidence_alone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that has published would be called a failure, or the evidence of before would be torn."""
    leave(registry, SEEN, GOOD)
    monkeypatch.setenv(VARIABLE, "write.written:error=ENOSPC")
    leave(registry, replace(SEEN, spec_digest="sha256:other"), GOOD)
    assert find(registry, LIVE) == (SEEN, (INT8, FP32))


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", '{"seen": 1, "engine": {}}', "[" * 100_000, "\x00"])
def test_torn_evidence_is_none(registry: Registry, text: str) -> None:
    """A file that a disk error or a person left would end the daemon at each start."""
    leave(registry, SEEN, GOOD)
    evidence_files(registry)[0].write_text(text)
    assert find(registry, LIVE) is None


def test_evidence_counts_for_its_own_version_only(registry: Registry) -> None:
    """An older engine, live again, would be taken for the newest; or half a build for a whole one."""
    assert find(registry, LIVE) is None
    leave(registry, SEEN, GOOD)
    assert find(registry, {"net-int8": 2, "net-fp32": 1}) is None
    assert find(registry, {"net-int8": None, "net-fp32": 1}) is None
    (registry.record("net-int8", 3) / EVIDENCE_FILE).rename(registry.record("net-fp32", 1) / EVIDENCE_FILE)
    assert find(registry, {"net-fp32": 1}) is None
    leave(registry, SEEN, GOOD)
    leave(registry, replace(SEEN, spec_digest="sha256:other"), replace(GOOD, engines=GOOD.engines[:1]))
    assert find(registry, LIVE) is None  # they do not agree


# ------------------------------------------------------------------------------------------------------ the scanner


def published(scene: Scene) -> Evidence:
    """A settled spec, ``a.toml``, with an engine that was made from it."""
    scene.spec()
    [seen] = scene.settled()
    for folder in (scene.registry.engines / "a" / "1", scene.registry.record("a", 1)):
        folder.mkdir(parents=True)
    made = Evidence(seen.spec_digest, scene.scanner.listings("a.toml"), seen.tools)
    leave(scene.registry, made, Outcome("", (EngineOutcome(engine("a", 1), "plan", True),)))
    scene.start()
    scene.known.clear()
    return made


def test_a_scanner_that_knows_nothing_tells_what_records_say(tmp_path: Path) -> None:
    """Models and data that are as they were when the engine was built would be waited for as if they were new."""
    scene = Scene(tmp_path)
    made = published(scene)
    assert scene.scan().recorded == []  # the spec settles
    result = scene.scan(0.5)
    [recorded], [seen] = result.recorded, result.seen
    assert (recorded.key, recorded.spec_digest, recorded.tools) == ("a.toml", made.spec_digest, made.tools)
    assert recorded.engines == (engine("a", 1),)
    assert seen.settled
    assert seen.inputs_digest == recorded.inputs_digest
    assert scene.scan(1.0).recorded == []  # once


def test_changed_data_are_waited_for_all_the_same(tmp_path: Path) -> None:
    """Half a data set would be built from."""
    scene = Scene(tmp_path)
    published(scene)
    (scene.data / "1.png").write_bytes(b"more")
    scene.scan()
    result = scene.scan(0.5)
    [recorded], [seen] = result.recorded, result.seen
    assert not seen.settled
    assert scene.settled()[0].inputs_digest != recorded.inputs_digest


def test_who_remembers_reads_no_records(tmp_path: Path) -> None:
    """Ten thousand files would be read at every start, and old evidence would be told against what is known."""
    scene = Scene(tmp_path)
    published(scene)
    scene.settle()
    scene.restart()
    assert scene.scan().recorded == []
    scene.spec(head="# edited")
    assert [scene.scan(s).recorded for s in (0.5, 0.5)] == [[], []]


# --------------------------------------------------------------------------------------------------- the reconciler


def test_what_records_prove_is_not_built() -> None:
    """The whole purpose: after the loss, ten thousand specs would each start a process."""
    driver = Driver()
    seen = observed("digits", versions=(("digits", 4),))
    driver.step(Recorded("digits.toml", seen.spec_digest, seen.inputs_digest, seen.tools, (engine("digits", 4),)))
    driver.step(Seen(seen))
    out = driver.step(Scanned())
    assert started(out) == []
    status = driver.status("digits")
    assert (status.phase, status.ready, status.engines) == ("ready", True, (engine("digits", 4),))


@pytest.mark.parametrize(
    "change", [{"spec_digest": "other"}, {"inputs_digest": "other"}, {"versions": (("digits", 5),)}]
)
def test_what_is_not_as_recorded_is_built(change: dict[str, Any]) -> None:
    """A change that was made while the database was lost would never be built."""
    driver = Driver()
    recorded = observed("digits", versions=(("digits", 4),))
    engines = (engine("digits", 4),)
    driver.step(Recorded("digits.toml", recorded.spec_digest, recorded.inputs_digest, recorded.tools, engines))
    driver.step(Seen(replace(recorded, **change)))
    [start] = of(Start, driver.step(Scanned()))
    assert start.reasons
    assert "no build of it is on record" not in start.reasons


def test_an_upgrade_asks_although_nothing_is_remembered() -> None:
    """Whoever loses the database at an upgrade would have a fleet rebuilt that should have waited for approval."""
    driver = Driver()
    facts = observed("digits").facts
    assert facts is not None
    seen = observed("digits", versions=(("digits", 4),), facts=replace(facts, rebuild="ask"))
    old = (("onnxruntime", "1.0.0"), *TOOLS[1:])
    driver.step(Recorded("digits.toml", seen.spec_digest, seen.inputs_digest, old, (engine("digits", 4),)))
    driver.step(Seen(seen))
    assert started(driver.step(Scanned())) == []
    assert driver.status("digits").phase == "stale"
    assert "onnxruntime 1.0.0 → 1.31.0" in driver.status("digits").reasons


def test_what_is_remembered_weighs_more() -> None:
    """A failure would be forgotten with each rename of a spec, and its build tried at once."""
    driver = Driver()
    driver.scan(digits={})
    driver.finish("digits", failure("never"))
    seen = driver.seen["digits"]
    driver.step(Recorded("digits.toml", seen.spec_digest, seen.inputs_digest, seen.tools, (engine("digits", None),)))
    driver.step(Scanned())
    assert driver.status("digits").phase == "stalled"


def test_evidence_is_plain_json(registry: Registry) -> None:
    """Nobody could look at it."""
    leave(registry, SEEN, replace(GOOD, engines=GOOD.engines[:1]))
    [file] = evidence_files(registry)
    data = json.loads(file.read_bytes())
    assert data["schema_version"] == 1
    assert data["seen"]["spec_digest"] == "sha256:spec"
    assert data["engine"]["version"] == 3
