"""Notes beside a version: kill -9 of whoever leaves one."""

from __future__ import annotations

import os
import signal

import pytest

from tests.registry.samples import NAME, check_whole, failpoints_in, publish_sample
from tests.store.children import run_in_child
from trtd.registry.layout import EVIDENCE_FILE, RETIRED_FILE, Registry
from trtd.registry.note import leave_note
from trtd.registry.retention import gc

STEPS = [name for name in failpoints_in("../store/atomic.py") if name.startswith("write.")]


@pytest.mark.parametrize("file", [EVIDENCE_FILE, RETIRED_FILE])
@pytest.mark.parametrize("step", STEPS)
def test_whoever_dies_leaves_no_litter_in_a_record(registry: Registry, step: str, file: str) -> None:
    """A version that is served would count as torn, for a file that nobody has ever read."""
    publish_sample(registry)
    record = registry.record(NAME, 1)
    before = sorted(os.listdir(record))
    assert run_in_child(lambda: leave_note(registry, NAME, 1, file, b"{}"), step) == -signal.SIGKILL
    assert sorted(os.listdir(record)) == before
    check_whole(registry)
    leave_note(registry, NAME, 1, file, b"{}")
    check_whole(registry)
    gc(registry)
    assert os.listdir(registry.staging) == []
