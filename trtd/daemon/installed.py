"""Versions of packages and facts of devices that engines depend on, read anew when packages change."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from importlib.metadata import MetadataPathFinder
from pathlib import Path
from typing import NamedTuple

from trtd.daemon.devices import CPU
from trtd.daemon.settle import Settling
from trtd.engines.table import BACKENDS
from trtd.model.converter import CONVERTER_PYTHON
from trtd.pipeline.tools import tool_versions


class Kind(NamedTuple):
    """What decides what a build depends on; ``capabilities`` are the compute capabilities that the spec names."""

    target: str
    source_format: str
    capabilities: tuple[str, ...] = ()


class Setting(NamedTuple):
    """What builds of a kind meet here.

    Attributes:
        tools: everything that the engines depend on beside spec, model and data; sorted by name.
        device: what a build occupies: ``cpu``, or the UUID of a GPU.
    """

    tools: tuple[tuple[str, str], ...]
    device: str


def read_setting(kind: Kind) -> Setting:
    backend = BACKENDS[kind.target]
    device = {f"device.{name}": value for name, value in backend.fingerprint(kind.capabilities).items()}
    tools = tool_versions(kind.target, kind.source_format) | device
    return Setting(tuple(sorted(tools.items())), backend.runs_on(kind.capabilities) or CPU)


class Installed:
    """The setting of each kind, as of the last look.

    An upgrade takes a while, and in the middle of it a package may be missing: what changed counts once it has been
    still.

    Args:
        settle_s: how long.
        read: gives the setting of a kind.
    """

    def __init__(self, settle_s: float, read: Callable[[Kind], Setting] = read_setting) -> None:
        self._settle_s = settle_s
        self._read = read
        self._counted: dict[Kind, Setting] = {}
        self._settling: dict[Kind, Settling[Setting]] = {}
        self._signature: object = None

    def of(self, kind: Kind) -> Setting:
        """The setting of a kind; read at once if it was never asked for."""
        if kind not in self._counted:
            self._counted[kind] = self._read(kind)
        return self._counted[kind]

    @property
    def devices(self) -> frozenset[str]:
        """What builds of all kinds that were asked for occupy."""
        return frozenset(setting.device for setting in self._counted.values())

    @property
    def due_mono_s(self) -> float | None:
        """When to look again; ``None`` if nothing is being installed."""
        return min((settling.due_mono_s for settling in self._settling.values()), default=None)

    def look(self, now_mono_s: float) -> set[Kind]:
        """Look whether packages or devices changed; gives the kinds of which they did."""
        signature = _folders(), [_devices_of(kind) for kind in self._counted]
        if signature == self._signature and not self._settling:
            return set()
        self._signature = signature
        MetadataPathFinder().invalidate_caches()  # an instance: in Python 3.10 and 3.11 it is no class method
        return {kind for kind in self._counted if self._has_changed(kind, now_mono_s)}

    def _has_changed(self, kind: Kind, now_mono_s: float) -> bool:
        found = self._read(kind)
        if found == self._counted[kind]:
            self._settling.pop(kind, None)
            return False
        settling = self._settling.setdefault(kind, Settling(self._settle_s, found, now_mono_s))
        if not settling.is_still(found, now_mono_s):
            return False
        self._counted[kind] = found
        del self._settling[kind]
        return True


def _devices_of(kind: Kind) -> tuple[dict[str, str], str]:
    """What may change of a setting while no package does."""
    backend = BACKENDS[kind.target]
    return backend.fingerprint(kind.capabilities), backend.runs_on(kind.capabilities)


def _folders() -> list[tuple[str, int, int]]:
    """Dates of the folders that packages are installed in; each package adds a name to one of them."""
    folders = [folder for folder in sys.path if folder]
    if python := os.environ.get(CONVERTER_PYTHON):
        folders += glob.glob(f"{glob.escape(str(Path(python).parent.parent))}/lib/python3*/*-packages")
    found = []
    for folder in folders:
        try:
            status = os.stat(folder)
        except OSError:
            continue
        found.append((folder, status.st_mtime_ns, status.st_ino))
    return found
