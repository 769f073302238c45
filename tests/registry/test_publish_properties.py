"""Any sequence of publishes, rollbacks, gcs, crashes and refusals leaves a registry whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.registry.samples import MEMORY, NAME, check_whole, content_of, failpoints_in, publish_sample
from tests.store.children import run_in_child
from trtd.errors import RegistryError, StorageError
from trtd.registry.layout import RETIRED_FILE, Registry
from trtd.registry.retention import gc
from trtd.registry.rollback import rollback
from trtd.store.failpoint import VARIABLE

STEPS = failpoints_in("draft.py", "publish.py")
GC_STEPS = failpoints_in("retention.py")
CONTENTS = st.sampled_from([b"one", b"two", b"three"])
CLASSES = st.sampled_from([5, 10])
KEEPS = st.integers(1, 3)


class RegistryMachine(RuleBasedStateMachine):
    """Remembers what was published under which number, and compares after every step."""

    def __init__(self) -> None:
        super().__init__()
        memory = MEMORY if os.access(MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="trtd-test-", dir=memory))
        self.registry = Registry(self.folder)
        self.registry.init()
        self.seen: dict[int, bytes] = {}
        self.returned: list[int] = []

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _attempt(self, action: Callable[[], int]) -> None:
        with contextlib.suppress(RegistryError, StorageError):
            self.returned.append(action())

    def _killed(self, action: Callable[[], object], step: str) -> None:
        assert run_in_child(action, step) in (0, -signal.SIGKILL)

    @rule(content=CONTENTS, classes=CLASSES)
    def publish(self, content: bytes, classes: int) -> None:
        self.returned.append(publish_sample(self.registry, content, classes))

    @rule(version=st.none() | st.integers(1, 6))
    def roll_back(self, version: int | None) -> None:
        self._attempt(lambda: rollback(self.registry, NAME, version))

    @rule(keep=KEEPS)
    def collect(self, keep: int) -> None:
        gc(self.registry, keep=keep)
        assert os.listdir(self.registry.staging) == []
        assert len(self.registry.versions(NAME)) <= keep

    @rule(content=CONTENTS, classes=CLASSES, step=st.sampled_from(STEPS))
    def publish_and_die(self, content: bytes, classes: int, step: str) -> None:
        self._killed(lambda: publish_sample(self.registry, content, classes), step)

    @rule(version=st.none() | st.integers(1, 6), step=st.sampled_from(STEPS))
    def roll_back_and_die(self, version: int | None, step: str) -> None:
        def refused_or_done() -> None:
            with contextlib.suppress(RegistryError):
                rollback(self.registry, NAME, version)

        self._killed(refused_or_done, step)

    @rule(keep=KEEPS, step=st.sampled_from(GC_STEPS))
    def collect_and_die(self, keep: int, step: str) -> None:
        self._killed(lambda: gc(self.registry, keep=keep), step)

    @rule(
        content=CONTENTS,
        classes=CLASSES,
        step=st.sampled_from(STEPS),
        name=st.sampled_from(["ENOSPC", "EIO", "EROFS", "EACCES"]),
    )
    def publish_on_a_bad_disk(self, content: bytes, classes: int, step: str, name: str) -> None:
        os.environ[VARIABLE] = f"{step}:error={name}"
        try:
            self._attempt(lambda: publish_sample(self.registry, content, classes))
        finally:
            del os.environ[VARIABLE]

    @invariant()
    def every_version_is_whole(self) -> None:
        check_whole(self.registry)

    @invariant()
    def numbers_grow_and_content_stays(self) -> None:
        assert self.returned == sorted(set(self.returned))
        versions = self.registry.versions(NAME)
        newest_before = max(self.seen, default=0)
        for version in versions:
            content = content_of(self.registry, version)
            assert self.seen.get(version, content) == content
            assert version in self.seen or version > newest_before
            self.seen[version] = content
        assert max(versions, default=0) == max(self.seen, default=0), "the live version was removed"

    @invariant()
    def what_is_gone_was_retired(self) -> None:
        for version in set(self.seen) - set(self.registry.versions(NAME)):
            assert (self.registry.record(NAME, version) / RETIRED_FILE).exists()


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
