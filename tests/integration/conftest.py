"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.host import Host
from tests.integration.onlooker import Onlooker
from tests.workshop import Workshop


@pytest.fixture
def host(own: Workshop, tmp_path: Path) -> Iterator[Host]:
    made = Host(own, tmp_path / "daemon.log")
    yield made
    made.close()


@pytest.fixture
def onlooker(host: Host) -> Iterator[Onlooker]:
    made = Onlooker(host)
    yield made
    made.close()
