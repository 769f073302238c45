"""The live version of every engine that some spec publishes, read anew only where a folder changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
        self._users: dict[str, set[str]] = {}  # keys of the specs that publish an engine, by its name
        self._names: dict[str, tuple[str, ...]] = {}  # and the other way round

    def use(self, key: str, names: Sequence[str]) -> None:
        """From now on the spec ``key`` publishes the engines of these names and no others."""
        for name in self._names.pop(key, ()):
            self._users[name].discard(key)
            if not self._users[name] and name not in names:
                del self._users[name]
                self._live.pop(name, None)
        for name in names:
            self._users.setdefault(name, set()).add(key)
        if names:
            self._names[key] = tuple(names)

    def names(self, key: str) -> tuple[str, ...]:
        """Engines that the spec publishes, as far as was said."""
        return self._names.get(key, ())

    def get(self, name: str) -> int | None:
        """The live version; ``None`` if nothing is published, or the name was never looked at."""
        live = self._live.get(name)
        return live.version if live else None

    def look(self, now_mono_s: float) -> set[str]:
        """Look at all engines in use; gives the keys of the specs of which a live version is not what it was.

        What cannot be read keeps the version that it had.
        """
        engines = os.fspath(self._registry.engines)
        changed: set[str] = set()
        for name, users in self._users.items():
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
                changed |= users
            self._live[name] = _Live(version, dated, since_mono_s, trusted)
        return changed


def _dated(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
