"""A registry with a real daemon on it, as people run it: a process of its own, ended by signals."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.workshop import Workshop
from trtd.daemon.orphans import MARKER
from trtd.registry.layout import Registry

PATIENCE_S = 90.0
CONFIG = """\
[watch]
settle_spec_s = 0.2
settle_s = 0.2
[limits]
builds = 2
[retry]
backoff_s = 1.0
wait_s = 1.0
[access]
roots = ["{root}"]
"""


class Host:
    """A registry and the daemons that are run on it."""

    def __init__(self, workshop: Workshop, log: Path) -> None:
        self.workshop = workshop
        self.registry = workshop.registry
        self.log = log
        self.processes: list[subprocess.Popen[bytes]] = []
        (self.registry.root / "trtd.toml").write_text(CONFIG.format(root=workshop.folder))

    def configure(self, **watch: float) -> None:
        """Set keys of ``[watch]`` beside those that all tests have."""
        lines = "".join(f"{key} = {value}\n" for key, value in watch.items())
        text = CONFIG.format(root=self.workshop.folder).replace("[watch]\n", f"[watch]\n{lines}")
        (self.registry.root / "trtd.toml").write_text(text)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trtd", "run", "--registry", str(self.registry.root)]
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
            )
        self.processes.append(process)
        return process

    def trtd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trtd", *arguments, "--registry", str(self.registry.root)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)

    def status(self) -> dict[str, Any]:
        ran = self.trtd("status", "--json")
        found = json.loads(ran.stdout) if ran.stdout else {}
        assert isinstance(found, dict)
        return found

    def phase(self, key: str) -> str | None:
        subjects = (self.status().get("data") or {}).get("subjects", [])
        return next((subject["phase"] for subject in subjects if subject["key"] == key), None)

    def drop(self, name: str = "tiny", **options: Any) -> Path:
        """Write a spec of the workshop's model into the watched folder, as an editor does."""
        text = self.workshop.spec(name, **options).read_text().replace("../", f"{self.workshop.folder}/")
        made = self.registry.specs / f"{name}.toml"
        fresh = made.with_name(f".{name}.tmp")
        fresh.write_text(text)
        fresh.replace(made)
        return made

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up_s, f"{what}; the daemon's log:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.1)

    def marked(self) -> list[int]:
        """Living processes that were started by a daemon of this registry."""
        wanted = f"{MARKER}={os.path.realpath(self.registry.root)}|".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(entry.startswith(wanted) for entry in (folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
        return found

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def whole(registry: Registry, name: str) -> bool:
    """Every published version has the files of its manifest, with their digests."""
    for version in registry.versions(name):
        files = json.loads((registry.record(name, version) / "manifest.json").read_bytes())["files"]
        for file, facts in files.items():
            digest = hashlib.sha256((registry.engine(name, version) / file).read_bytes()).hexdigest()
            if facts["sha256"].removeprefix("sha256:") != digest:
                return False
    return True
