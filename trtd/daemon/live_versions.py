"""The live version of every engine that some spec publishes, read anew only where a folder changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from trtd.errors import TrtdError
from trtd.registry.layout import Registry

TRUSTED_AFTER_S = 2.0
"""Dates of folders are that coarse: what changed twice within it may show one date for two states."""


@dataclass(slots=True)
class _Live:
    """Attributes:
    dated: mtime and inode of the engine's folder when it was read; ``None`` if there was none.
    since_mono_s: when it was first seen with them.
    trusted: whether it was read long enough after that.
    """

    version: int | None
    dated: tuple[int, int] | None
    since_mono_s: float
    trusted: bool


class LiveVersions:
    """Versions by engine name, as of the last look."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._live: dict[str, _Live] = {}

    def get(self, name: str) -> int | None:
        """The live version; ``None`` if nothing is published, or the name was never looked at."""
        live = self._live.get(name)
        return live.version if live else None

    def forget(self, name: str) -> None:
        """The engine is not looked at any more."""
        self._live.pop(name, None)

    def look(self, names: Iterable[str], now_mono_s: float) -> set[str]:
        """Look at these engines; gives those whose live version is not what it was.

        What cannot be read keeps the version that it had.
        """
        engines = os.fspath(self._registry.engines)
        changed = set()
        for name in names:
            dated = _dated(f"{engines}/{name}")
            live = self._live.get(name)
            if live is not None and live.trusted and live.dated == dated:
                continue
            try:
                version = self._registry.latest(name) if dated is not None else None
            except TrtdError:
                version = live.version if live else None
            if live is None or live.dated != dated:
                since_mono_s = now_mono_s
            else:
                since_mono_s = live.since_mono_s
            trusted = now_mono_s - since_mono_s >= TRUSTED_AFTER_S
            if live is None or live.version != version:
                changed.add(name)
            self._live[name] = _Live(version, dated, since_mono_s, trusted)
        return changed


def _dated(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
