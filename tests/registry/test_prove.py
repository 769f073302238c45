"""An engine that was published unverified becomes a verified one, or stays what it was, whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.registry.samples import NAME, PASSED, check_whole, failpoints_in, provenance, publish_sample
from tests.store.children import run_in_child
from trtd.errors import RegistryBusy, RegistryError, StorageError
from trtd.registry.layout import Registry
from trtd.registry.manifest import Target, verify_files
from trtd.registry.prove import prove
from trtd.registry.publish import publish
from trtd.store.failpoint import VARIABLE
from trtd.store.lock import hold

STEPS = failpoints_in("prove.py")
COMMITTED = "prove.exchanged"
DEVICE = "NVIDIA A10"
SPEED = PASSED.model_copy(update={"name": "min_speedup", "output": "", "bound": 1.0, "measured": 2.0})


def emulated(registry: Registry) -> dict[str, Path]:
    """Publish an engine that nobody has verified; what its verification would put into the record."""
    sources = registry.private / "sources"
    sources.mkdir()
    for name in ("model.plan", "report.json", "calibration.json"):
        (sources / name).write_bytes(b"old " + name.encode())
    records = {name: sources / name for name in ("report.json", "calibration.json")}
    target = Target(backend="tensorrt-rtx", fingerprint={"compute": "8.6", "device": "no GPU"})
    facts = provenance(proof="emulated", target=target, spec={"name": NAME, "publish": {"keep": 3, "unverified": True}})
    publish(registry, NAME, {"model.plan": sources / "model.plan"}, records, facts)
    for name in ("report.json", "layers.json"):
        (sources / name).write_bytes(b"new " + name.encode())
    return {name: sources / name for name in ("report.json", "layers.json")}


def record_of(registry: Registry) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in registry.record(NAME, 1).iterdir()}


def state_of(registry: Registry) -> str:
    """``old`` or ``new``; raises if it is anything between."""
    manifest, found = verify_files(registry, NAME, 1), record_of(registry)
    assert found["calibration.json"] == b"old calibration.json"
    if manifest.proof == "emulated":
        assert found["report.json"] == b"old report.json"
        assert "layers.json" not in found
        assert manifest.target.fingerprint["device"] == "no GPU"
        return "old"
    assert found["report.json"] == b"new report.json"
    assert found["layers.json"] == b"new layers.json"
    assert [gate.name for gate in manifest.gates] == ["cosine", "min_speedup"]
    assert manifest.target.fingerprint == {"compute": "8.6", "device": DEVICE}
    return "new"


def test_the_record_is_new_and_the_engine_is_not_touched(registry: Registry) -> None:
    told = emulated(registry)
    engine = registry.engine(NAME, 1) / "model.plan"
    before = engine.stat()
    prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE)
    assert state_of(registry) == "new"
    assert engine.stat() == before
    check_whole(registry)
    publish_sample(registry)  # and the next version is published as ever


@pytest.mark.parametrize("gates", [[], [PASSED.model_copy(update={"passed": False})]])
def test_what_did_not_pass_proves_nothing(registry: Registry, gates: list[object]) -> None:
    told = emulated(registry)
    with pytest.raises(RegistryError, match="did not pass"):
        prove(registry, NAME, 1, told, gates, device=DEVICE)  # type: ignore[arg-type]
    assert state_of(registry) == "old"


def test_an_engine_that_was_changed_is_not_proved(registry: Registry) -> None:
    """What ran on the device was then not what the registry serves."""
    told = emulated(registry)
    engine = registry.engine(NAME, 1) / "model.plan"
    engine.chmod(0o644)
    engine.write_bytes(b"other")
    with pytest.raises(RegistryError, match=r"model\.plan"):
        prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE)


def test_steps() -> None:
    assert COMMITTED in STEPS
    assert len(STEPS) >= 3


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_leaves_the_old_record_or_the_new_one(registry: Registry, step: str) -> None:
    told = emulated(registry)
    assert run_in_child(lambda: prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE), step) == -signal.SIGKILL
    assert state_of(registry) == ("new" if step == COMMITTED else "old")
    check_whole(registry)
    prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE)
    assert state_of(registry) == "new"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_a_refusing_disk_leaves_the_old_record_or_the_new_one(
    registry: Registry, step: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = emulated(registry)
    monkeypatch.setenv(VARIABLE, f"{step}:error={name}")
    with pytest.raises(StorageError):
        prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE)
    monkeypatch.delenv(VARIABLE)
    assert state_of(registry) == ("new" if step == COMMITTED else "old")
    assert os.listdir(registry.staging) == []


def test_it_waits_for_nobody_longer_than_told(registry: Registry) -> None:
    told = emulated(registry)
    with hold(registry.lock(NAME), "a test", wait_s=1), pytest.raises(RegistryBusy):
        prove(registry, NAME, 1, told, [PASSED, SPEED], device=DEVICE, wait_s=0.05)
    assert state_of(registry) == "old"
