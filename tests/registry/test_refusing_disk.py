"""A disk that refuses any one change, whichever: of publish, rollback, unpublish and gc each one is tried."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.registry.samples import NAME, check_whole, provenance, publish_sample
from tests.store.refusing_disk import RefusingDisk, each_error, on_refusing_disk
from trtd.errors import StorageError
from trtd.registry.layout import Registry
from trtd.registry.publish import publish
from trtd.registry.retention import gc
from trtd.registry.rollback import rollback
from trtd.registry.unpublish import unpublish

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EIO: "the disk failed to read or write",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
}


@dataclass
class Deed:
    """What is tried, and what must be there before it.

    Attributes:
        name: of the engine; a new one for each attempt where it must be new.
        classes: of the engine; another number means another configuration.
    """

    registry: Registry
    name: str = NAME
    classes: int = 10
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def sources(self) -> dict[str, Path]:
        folder = self.registry.root / "sources"
        folder.mkdir(exist_ok=True)
        for name in ("model.onnx", "report.json"):
            (folder / name).write_bytes(f"{name} {next(self.numbers)}".encode())
        return {name: folder / name for name in ("model.onnx", "report.json")}

    def publish(self) -> None:
        model, report = self._ready["model.onnx"], self._ready["report.json"]
        publish(self.registry, self.name, {"model.onnx": model}, {"report.json": report}, provenance(self.classes))

    def prepare_publish(self) -> None:
        self._ready = self.sources

    def prepare_first(self) -> None:
        self._ready, self.name = self.sources, f"engine-{next(self.numbers)}"

    def prepare_other(self) -> None:
        self._ready, self.classes = self.sources, 15 - self.classes

    def prepare_many(self) -> None:
        while len(self.registry.versions(NAME)) < 3:
            publish_sample(self.registry, f"engine {next(self.numbers)}".encode())


DEEDS: dict[str, tuple[Callable[[Deed], object], Callable[[Deed], object]]] = {
    "publish": (Deed.prepare_publish, Deed.publish),
    "first publish": (Deed.prepare_first, Deed.publish),
    "another configuration": (Deed.prepare_other, Deed.publish),
    "rollback": (lambda deed: None, lambda deed: rollback(deed.registry, NAME)),
    "unpublish": (Deed.prepare_many, lambda deed: unpublish(deed.registry, NAME)),
    "gc": (Deed.prepare_many, lambda deed: gc(deed.registry, keep=1)),
}


@each_error
@pytest.mark.parametrize("what", DEEDS)
def test_no_refusal_tears_what_is_published(registry: Registry, what: str, numbers: tuple[int, ...]) -> None:
    """Somewhere among a hundred changes one would be forgotten, and readers would get half an engine that day."""
    prepare, act = DEEDS[what]
    deed = Deed(registry)
    refusals = []

    def body(disk: RefusingDisk) -> None:
        for content in (b"one", b"two", b"three"):
            publish_sample(registry, content)
        live = 0
        for refusal in disk.every_refusal(numbers, lambda: act(deed), lambda: prepare(deed)):
            refusals.append(refusal.change)
            raised = refusal.raised
            if raised is not None:
                assert isinstance(raised, StorageError), refusal
                assert raised.retry == "backoff"
                assert CAUSES[refusal.number] in raised.message, refusal
                assert raised.hint
                assert raised.where.startswith(str(registry.root))
            check_whole(registry)
            versions = registry.versions(NAME)
            assert versions or what == "unpublish", refusal
            assert max(versions, default=live) >= live, "a number was given again"
            live = max(versions, default=live)
            gc(registry, keep=3)

    on_refusing_disk(body)
    assert {"openat", "write", "fsync", "mkdir", "renameat2"} <= {change.split()[0] for change in refusals}
    gc(registry, keep=100)
    for name in registry.recorded_names():
        unaccounted = set(registry.versions(name)) - set(registry.recorded_versions(name))
        assert not unaccounted, "published without a record"
    check_whole(registry)
