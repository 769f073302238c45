"""Manifests survive the round trip, and verify_files finds every change."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from tests.registry.samples import NAME, PASSED, provenance, publish_sample
from trtd.errors import RegistryError
from trtd.registry.layout import Registry
from trtd.registry.manifest import Manifest, Provenance, read_manifest, verify_files
from trtd.store.tree import FileFacts

FACTS = FileFacts(sha256="0" * 64, bytes=1)


def manifest(**changes: object) -> Manifest:
    own = {"name": NAME, "version": 1, "created": "2026-01-01T00:00:00+00:00", "files": {}, "records": {}}
    return Manifest.model_validate({**dict(provenance()), **own, "config": FACTS, **changes})


def test_the_file_is_standard_json_with_the_name_first_and_reads_back() -> None:
    """NaN and infinity must survive, and no parser but Python's accepts them bare."""
    gates = (PASSED.model_copy(update={"measured": math.inf}), PASSED.model_copy(update={"name": "sqnr_db"}))
    before = manifest(gates=gates, rolled_back_from=3)
    text = before.to_json()
    plain = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert list(plain)[:4] == ["schema_version", "name", "version", "created"]
    assert Manifest.model_validate_json(text) == before


def test_provenance_is_the_manifest_without_what_publishing_adds() -> None:
    """A rollback publishes it again: a lost field would be lost for good."""
    again = manifest().provenance()
    assert type(again) is Provenance
    assert again == provenance()


def test_settings_of_the_spec_have_defaults() -> None:
    """A spec without [publish] must not break gc."""
    assert provenance().publish_setting("keep", 7) == 3
    assert provenance(spec={}).publish_setting("keep", 7) == 7
    assert provenance(spec={"publish": None}).publish_setting("keep", 7) == 7


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b"[" * 100_000, b'{"schema_version": 2}'])
def test_an_unreadable_manifest_is_named(registry: Registry, content: bytes) -> None:
    """A traceback would hide which version is torn."""
    publish_sample(registry)
    (registry.record(NAME, 1) / "manifest.json").write_bytes(content)
    with pytest.raises(RegistryError, match=f"{NAME}@1 is torn") as caught:
        read_manifest(registry, NAME, 1)
    assert caught.value.where.endswith("manifest.json")


def test_a_manifest_of_another_version_is_refused(registry: Registry) -> None:
    """A record copied by hand must not vouch for another engine."""
    publish_sample(registry)
    publish_sample(registry)
    one, two = (registry.record(NAME, version) / "manifest.json" for version in (1, 2))
    two.write_bytes(one.read_bytes())
    with pytest.raises(RegistryError, match=f"{NAME}@1"):
        read_manifest(registry, NAME, 2)


def test_a_whole_version_passes(registry: Registry) -> None:
    """A false alarm would block every rollback."""
    publish_sample(registry)
    publish_sample(registry, classes=5)
    assert verify_files(registry, NAME, 1).version == 1
    assert verify_files(registry, NAME, 2).version == 2


@pytest.mark.parametrize(
    "victim", ["engines/1/model.onnx", "engines/1/data/weights", "engines/config.pbtxt", "records/1/report.json"]
)
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_every_changed_file_is_named(registry: Registry, victim: str, change: str) -> None:
    """An engine that was tampered with must never be rolled back to or called verified."""
    publish_sample(registry)
    tree, _, path = victim.partition("/")
    file = registry.root / tree / NAME / path
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    if change == "flip":
        file.write_bytes(bytes(content))
    elif change == "cut":
        os.truncate(file, 1)
    else:
        file.unlink()
    with pytest.raises(RegistryError, match=Path(victim).name) as caught:
        verify_files(registry, NAME, 1)
    assert caught.value.hint


def test_a_stray_file_in_a_version_is_named(registry: Registry) -> None:
    """Triton would load it, or take it for a change."""
    publish_sample(registry)
    (registry.engine(NAME, 1) / "model.plan").touch()
    with pytest.raises(RegistryError, match=r"model\.plan"):
        verify_files(registry, NAME, 1)
