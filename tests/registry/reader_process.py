"""A reader, run as a process of its own: fails as soon as the live version is torn or under another configuration.

Usage: reader_process.py ROOT NAME STOP_FILE
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from trtd.registry.layout import Registry
from trtd.registry.manifest import read_manifest


def look(registry: Registry, name: str) -> int | None:
    """Check the live version and return it; ``None`` if the folder changed while it was being looked at."""
    model = registry.engines / name
    descriptor = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = sorted(os.listdir(descriptor))
        config = _read(descriptor, "config.pbtxt")
        stable = sorted(os.listdir(descriptor)) == before and os.path.samestat(os.fstat(descriptor), model.stat())
    finally:
        os.close(descriptor)
    if not stable:
        return None
    strays = [entry for entry in before if entry != "config.pbtxt" and not entry.isdigit()]
    assert not strays, strays
    live = max(int(entry) for entry in before if entry.isdigit())
    manifest = read_manifest(registry, name, live)
    assert config is not None
    assert hashlib.sha256(config).hexdigest() == manifest.config.sha256, "a version under another configuration"
    folder = registry.engine(name, live)
    for path, facts in manifest.files.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == facts.sha256, path
    return live


def _read(folder: int, name: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:  # The folder was swapped out and is being removed; it is no longer stable then.
        return None
    with open(descriptor, "rb") as file:
        return file.read()


def main() -> None:
    """Look until told to stop; prints how many looks were stable and how many versions they saw."""
    registry, name, stop = Registry(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    looks = 0
    versions: set[int] = set()
    print("reading", flush=True)
    while not stop.exists():
        live = look(registry, name)
        if live is not None:
            assert not versions or live >= max(versions), f"{live} after {max(versions)}"
            looks += 1
            versions.add(live)
    print(looks, len(versions))


if __name__ == "__main__":
    main()
