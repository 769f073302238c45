"""What was heard of changes and not looked into yet: gathered in watchdog's threads, taken in the daemon's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

MOST_FOLDERS = 4096


@dataclass(frozen=True)
class Hints:
    """What was heard since last time.

    Attributes:
        folders: those in which something happened; of a tree, the ones below it.
        any: whether anything happened at all.
        lost: so much happened that some of it was dropped: anything may have changed.
    """

    folders: frozenset[Path] = frozenset()
    any: bool = False
    lost: bool = False


class Gathering:
    """Gathers hints. Thread-safe.

    Args:
        wake: called when there is something to :meth:`take`; once until it is taken.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._folders: set[Path] = set()
        self._is_awake = self._is_lost = False

    def add(self, folders: Collection[Path]) -> None:
        """Something happened in these."""
        with self._lock:
            if len(self._folders) < MOST_FOLDERS:
                self._folders.update(folders)
            else:
                self._is_lost = True
        self._wake_once()

    def lose(self) -> None:
        """Something happened, and nobody knows where."""
        with self._lock:
            self._is_lost = True
        self._wake_once()

    def take(self) -> Hints:
        """What happened since last time."""
        with self._lock:
            folders, self._folders = frozenset(self._folders), set()
            lost, self._is_lost, self._is_awake = self._is_lost, False, False
        return Hints(folders, bool(folders) or lost, lost)

    def _wake_once(self) -> None:
        with self._lock:
            should_wake, self._is_awake = not self._is_awake, True
        if should_wake:
            with contextlib.suppress(OSError):
                self._wake()
