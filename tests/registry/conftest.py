"""Fixtures of the registry's tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.samples import MEMORY
from trtd.registry.layout import Registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An empty, initialized registry, in memory where that can be: there are thousands of fsyncs in these tests."""
    with tempfile.TemporaryDirectory(prefix="trtd-test-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        made = Registry(Path(folder))
        made.init()
        yield made


@pytest.fixture
def disk_registry(tmp_path: Path) -> Registry:
    """An empty, initialized registry on the disk."""
    made = Registry(tmp_path / "registry")
    made.init()
    return made
