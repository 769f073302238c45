"""What the integration tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.host import Host
from tests.integration.onlooker import Onlooker
from tests.workshop import Workshop


@pytest.fixture
def cold_host(own: Workshop, tmp_path: Path) -> Iterator[Host]:
    """A registry in which each stage of a build is still to be done."""
    made = Host(own, tmp_path / "daemon.log")
    yield made
    made.close()


@pytest.fixture
def host(cold_host: Host, _built: Workshop) -> Host:
    """Nothing is published, but the stages of INT8 and FP16 engines are in the store, all but verify."""
    shutil.copytree(_built.registry.store.folder, cold_host.registry.store.folder, dirs_exist_ok=True)
    return cold_host


@pytest.fixture
def onlooker(host: Host) -> Iterator[Onlooker]:
    made = Onlooker(host)
    yield made
    made.close()
