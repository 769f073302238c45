"""A rollback publishes an older engine again, after looking at every byte of it."""

from __future__ import annotations

import os

import pytest

from tests.registry.samples import NAME, check_whole, content_of, publish_sample
from trtd.errors import RegistryBusy, RegistryError
from trtd.registry.layout import Registry
from trtd.registry.lookup import current
from trtd.registry.rollback import rollback
from trtd.store.lock import hold


def test_the_default_is_the_version_before(registry: Registry) -> None:
    """One command must undo the last publish."""
    publish_sample(registry, b"good")
    publish_sample(registry, b"bad")
    assert rollback(registry, NAME) == 3
    manifest, _ = current(registry, NAME)
    assert content_of(registry, 3) == b"good"
    assert manifest.rolled_back_from == 1
    assert manifest.files == current(registry, NAME, 1)[0].files
    assert manifest.records == current(registry, NAME, 1)[0].records
    check_whole(registry)


def test_the_default_skips_versions_that_are_what_is_live(registry: Registry) -> None:
    """A rollback that publishes the live engine once more would change nothing and look like success."""
    publish_sample(registry, b"older")
    publish_sample(registry, b"same")
    publish_sample(registry, b"same")
    rollback(registry, NAME)
    assert content_of(registry, 4) == b"older"


def test_a_rollback_brings_its_configuration(registry: Registry) -> None:
    """An old engine under the new inputs and outputs would not load."""
    publish_sample(registry, b"five classes", classes=5)
    publish_sample(registry, b"ten classes", classes=10)
    rollback(registry, NAME)
    assert "dims: [5]" in (registry.engines / NAME / "config.pbtxt").read_text()
    check_whole(registry)


def test_a_version_can_be_named(registry: Registry) -> None:
    """The one before is not always the good one."""
    for content in (b"one", b"two", b"three"):
        publish_sample(registry, content)
    assert rollback(registry, NAME, 1) == 4
    assert content_of(registry, 4) == b"one"


@pytest.mark.parametrize("file", ["model.onnx", "data/weights"])
def test_a_changed_engine_is_not_rolled_back_to(registry: Registry, file: str) -> None:
    """Old files lie long: the digests are looked at before they go live again."""
    publish_sample(registry, b"one")
    publish_sample(registry, b"two")
    path = registry.engine(NAME, 1) / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(RegistryError, match=file):
        rollback(registry, NAME)
    assert registry.versions(NAME) == (1, 2)
    assert os.listdir(registry.staging) == []


@pytest.mark.parametrize("torn", ["manifest.json", "model.onnx"])
def test_a_torn_live_version_can_be_rolled_back_from(registry: Registry, torn: str) -> None:
    """That is when one needs a rollback most."""
    publish_sample(registry, b"good")
    publish_sample(registry, b"torn")
    folder = registry.record(NAME, 2) if torn == "manifest.json" else registry.engine(NAME, 2)
    (folder / torn).write_bytes(b"")
    assert rollback(registry, NAME) == 3
    assert content_of(registry, 3) == b"good"


def test_what_cannot_be_rolled_back_to_is_refused(registry: Registry) -> None:
    """Each with its own word: no such name, no such version, live already, nothing older."""
    with pytest.raises(RegistryError, match="no engine"):
        rollback(registry, NAME)
    publish_sample(registry)
    with pytest.raises(RegistryError, match="no older version"):
        rollback(registry, NAME)
    with pytest.raises(RegistryError, match="live already"):
        rollback(registry, NAME, 1)
    with pytest.raises(RegistryError, match="no version 7"):
        rollback(registry, NAME, 7)
    assert registry.versions(NAME) == (1,)


def test_a_rollback_waits_for_the_lock(registry: Registry) -> None:
    """Beside a publish, it would take the same number."""
    publish_sample(registry, b"one")
    publish_sample(registry, b"two")
    with hold(registry.lock(NAME), "publish it"), pytest.raises(RegistryBusy):
        rollback(registry, NAME, wait_s=0)
