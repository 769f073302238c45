"""A reader of the registry, as a server is one: hashes everything that is published, again and again.

``python -m benchmarks.soak.reader REGISTRY`` reads until SIGTERM, and then prints what it saw as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from benchmarks.soak.world import LOOSE
from trtd.registry.layout import CONFIG_FILE, MANIFEST_FILE, Registry, is_name

MOST_TOLD = 20
PAUSE_S = 0.05  # between rounds: builds want the machine too


class Reader:
    """Attributes:
    counts: reads that were good, and that were overtaken by a version's removal.
    faults: what must never be seen, in words.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._digests: dict[tuple[str, int], dict[str, str]] = {}
        self._served: set[str] = set()

    def look(self) -> None:
        """Read every version of every engine once."""
        names = {name for name in os.listdir(self.registry.engines) if is_name(name)}
        for name in sorted(self._served | names):
            versions = self.registry.versions(name)
            if versions:
                self._served.add(name)
            elif not name.startswith(tuple(LOOSE)):
                self._fault(f"{name} is served no more")
            for version in versions:
                self._read(name, version)

    def _read(self, name: str, version: int) -> None:
        folder = self.registry.engine(name, version)
        before = _inode(folder)
        try:
            manifest = json.loads((self.registry.record(name, version) / MANIFEST_FILE).read_bytes())
            promised = {file: facts["sha256"].removeprefix("sha256:") for file, facts in manifest["files"].items()}
            found = {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*") if path.is_file()}
            fault = "" if found == promised else f"{sorted(found)} are not what was promised"
            config = (self.registry.engines / name / CONFIG_FILE).stat().st_size
            fault = fault or ("" if config else f"{CONFIG_FILE} is empty")
        except (OSError, ValueError, KeyError) as error:
            fault, promised = f"{type(error).__name__}: {error}", {}
        if fault and (before is None or _inode(folder) != before):  # it was taken away, or the whole engine exchanged
            self.counts["overtaken"] += 1
            return
        if fault:
            self._fault(f"{name}@{version}: {fault}")
        elif self._digests.setdefault((name, version), promised) != promised:
            self._fault(f"{name}@{version} has changed")
        else:
            self.counts["good"] += 1

    def _fault(self, text: str) -> None:
        self.counts["bad"] += 1
        if len(self.faults) < MOST_TOLD:
            self.faults.append(text)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _inode(folder: Path) -> int | None:
    with suppress(OSError):
        return os.stat(folder).st_ino
    return None


def main() -> None:
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    reader = Reader(Registry(Path(sys.argv[1])))
    while not ending:
        reader.look()
        time.sleep(PAUSE_S)
    sys.stdout.write(json.dumps({"counts": reader.counts, "faults": reader.faults}))


if __name__ == "__main__":
    main()
