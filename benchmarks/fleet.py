"""A registry of thousands of specs whose engines are all published and right: what a daemon finds after a restart.

One engine is built, by a daemon; the others are stand-ins, copies of it under other names.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.workshop import Workshop
from trtd.daemon.evidence import Evidence, leave
from trtd.daemon.inputs import Inputs, inputs_of
from trtd.daemon.messages import EngineOutcome, Outcome
from trtd.daemon.wire import engine_status_from
from trtd.registry.layout import CONFIG_FILE, EVIDENCE_FILE, MANIFEST_FILE, Registry
from trtd.spec.load import load_spec
from trtd.store.digest import file_digest

PATIENCE_S = 300.0
FIRST = "m00000"
SPEC = """\
[model]
registry = "{name}"
[engine]
precision = "int8"
[calibration]
data = "../images"
[verify]
latency_runs = 5
[verify.gates]
min_speedup = 0.001
"""


@dataclass
class Daemon:
    """A daemon, and the socket on which it tells of itself. ``started_s``: by ``time.perf_counter``."""

    process: subprocess.Popen[bytes]
    told: socket.socket
    log: Path
    started_s: float

    def until(self, message: str) -> None:
        """Wait until it tells this to its service manager."""
        give_up_s = time.monotonic() + PATIENCE_S
        self.told.settimeout(PATIENCE_S)
        while message not in self.told.recv(65536).decode().split("\n"):
            if time.monotonic() > give_up_s:
                raise SystemExit(f"the daemon never told {message!r}; its log: {self.log.read_text()[-2000:]}")

    @property
    def started(self) -> int:
        """Builds so far."""
        return self.log.read_text().count('"event": "started"')


@contextmanager
def running(registry: Registry) -> Iterator[Daemon]:
    """A daemon on a registry, as a service manager runs it; ended in order, so that its state is written down."""
    address = Path(f"/tmp/trtd-benchmark-{os.getpid()}.socket")
    log = registry.root.with_name("daemon.log")
    command = [sys.executable, "-m", "trtd", "run", "--registry", str(registry.root)]
    environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, log.open("wb") as output:
        told.bind(str(address))
        start_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            yield Daemon(process, told, log, start_s)
        finally:
            process.terminate()
            process.wait()
            address.unlink()


def furnish(folder: Path, count: int) -> Registry:
    """Make the registry, with ``count`` specs."""
    shop = Workshop(folder)
    shop.furnish()
    registry = shop.registry
    shutil.copytree(shop.images, registry.root / "images")
    _add(registry, shop, FIRST)
    with running(registry) as daemon:
        daemon.until("STATUS=1 ready")
    for number in range(1, count):
        name = f"m{number:05d}"
        _add(registry, shop, name)
        _publish_copy(registry, name)
    return registry


def lose_state(registry: Registry) -> None:
    """Remove the state database."""
    for file in registry.private.glob("state.db*"):
        file.unlink()


def _add(registry: Registry, shop: Workshop, name: str) -> None:
    model = registry.models / name / "1"
    model.mkdir(parents=True)
    shutil.copy(shop.model, model / "tiny.onnx")
    (registry.specs / f"{name}.toml").write_text(SPEC.format(name=name))


def _publish_copy(registry: Registry, name: str) -> None:
    """What publishing and the daemon's build would have left, if the engine had been built under this name."""
    engine, record = registry.engines / name, registry.record(name, 1)
    shutil.copytree(registry.engines / FIRST, engine, copy_function=os.link)
    shutil.copytree(registry.record(FIRST, 1), record, copy_function=os.link)
    for file in (engine / CONFIG_FILE, record / MANIFEST_FILE):
        text = file.read_text().replace(FIRST, name)
        file.unlink()  # a name of the first one's file
        file.write_text(text)
    status = json.loads((record / EVIDENCE_FILE).read_bytes())["engine"] | {"name": name}
    spec = registry.specs / f"{name}.toml"
    inputs = Inputs(registry, [registry.root])
    listings = tuple((input_set, inputs.list(input_set).digest) for input_set, _ in inputs_of(load_spec(spec)))
    tools = json.loads((record / EVIDENCE_FILE).read_bytes())["seen"]["tools"]
    seen = Evidence(file_digest(spec), listings, tuple((tool, version) for tool, version in tools))
    (record / EVIDENCE_FILE).unlink()
    leave(registry, seen, Outcome(seen.spec_digest, (EngineOutcome(engine_status_from(status), "", built=True),)))
