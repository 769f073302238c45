"""Watching folders: hints that something changed, so that the next scan comes soon.

Nothing depends on them. Events are lost when a queue overflows, a watch goes blind when its folder is replaced, and
threads can die; so every scan checks whether it was told of what it found.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from watchdog.observers.api import ObservedWatch

from trtd.daemon.hints import Gathering, Hints
from trtd.daemon.mounts import remote_type
from trtd.daemon.observer import Observer
from trtd.status import WatchStatus

MAX_WATCHES = 64
"""watchdog takes a thread for each folder, and before version 7 an inotify instance, of which a user has 128."""
GRACE_S = 2.0
"""An event may arrive this much later than the change was found."""
RETRY_S = 60.0
LONGEST_RETRY_S = 3600.0

_REASONS = {
    errno.ENOSPC: "no inotify watches are left: raise fs.inotify.max_user_watches with sysctl",
    errno.EMFILE: "no inotify instances are left: raise fs.inotify.max_user_instances with sysctl",
}


@dataclass(slots=True)
class _Watch:
    """One folder.

    Attributes:
        tree: whether all below it is watched too.
        handle: watchdog's; ``None`` while the folder is polled, and ``reason`` says why.
        identity: of the folder that is watched.
        retry_mono_s, retry_s: when to try again what failed, and how long to wait if it fails once more.
        fresh: so many scans may still find changes that are older than the watch: the one that is going on, and the one
            that its hint leads to.
        heard: whether there was an event since a change was last found.
        suspected_mono_s: when a change was found that no event had told of.
        blind: how many times in a row none came later either.
    """

    folder: Path
    tree: bool
    handle: ObservedWatch | None = None
    reason: str = ""
    identity: tuple[int, int] | None = None
    retry_mono_s: float = 0.0
    retry_s: float = RETRY_S
    fresh: int = 2
    heard: bool = False
    suspected_mono_s: float | None = None
    blind: int = 0

    def holds(self, folder: Path) -> bool:
        return folder == self.folder or (self.tree and folder.is_relative_to(self.folder))


class Watcher:
    """Watches folders. Never raises; what cannot be watched is polled by whoever scans.

    Args:
        wake: called from other threads when there is something to :meth:`take`; once until it is taken.
        trees: of the folders to follow, those to be watched with all below them.
        limit: how many folders may be watched.
        clock: a monotonic one.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        *,
        trees: Collection[Path] = (),
        limit: int = MAX_WATCHES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.overflows = 0
        self._trees = frozenset(trees)
        self._limit = limit
        self._clock = clock
        self._heard = Gathering(wake)
        self._observer: Observer | None = None
        self._watches: dict[Path, _Watch] = {}
        self._left_out = 0

    @property
    def degraded(self) -> bool:
        """Whether any folder is only polled."""
        return self._left_out > 0 or any(watch.handle is None for watch in self._watches.values())

    def status(self) -> tuple[WatchStatus, ...]:
        """How changes of each folder are noticed."""
        found = [
            WatchStatus(str(watch.folder), "events" if watch.handle else "polling", watch.reason)
            for watch in self._watches.values()
        ]
        if self._left_out:
            reason = f"no more than {self._limit} folders are watched"
            found.append(WatchStatus(f"{self._left_out} more folders", "polling", reason))
        return tuple(found)

    def take(self) -> Hints:
        """What happened since last time."""
        hints = self._heard.take()
        self.overflows += hints.lost
        return hints

    def follow(self, folders: Collection[Path]) -> None:
        """Watch these folders and no others, the first ones if there are too many; mend what is broken.

        A folder that is newly watched is hinted at: something may have changed in it just before.

        Args:
            folders: real paths.
        """
        wanted = [folder for folder in dict.fromkeys(folders) if not self._is_below_tree(folder, folders)]
        self._left_out = max(0, len(wanted) - self._limit)
        before, self._watches = self._watches, {}
        for folder in wanted[: self._limit]:
            self._watches[folder] = before.pop(folder) if folder in before else _Watch(folder, folder in self._trees)
        for watch in before.values():
            self._unwatch(watch)
        for watch in self._watches.values():
            if watch.handle is not None and _identity(watch.folder) != watch.identity:
                self._unwatch(watch)  # removed, moved or mounted over: watchdog would go on with what it had
                watch.retry_mono_s = 0.0
        if self._observer is not None and not all(thread.is_alive() for thread in self._observer.threads):
            self._start_anew()
        self._watch_all()

    def checked(self, changed: Collection[Path], now_mono_s: float) -> None:
        """Tell what a full scan found, so that blind watches are noticed: these are made again once, then polled.

        Args:
            changed: folders in which something changed that an event should have told of.
            now_mono_s: by the clock of all calls.
        """
        blind = False
        for watch in self._watches.values():
            if watch.handle is None:
                continue
            found = any(map(watch.holds, changed))
            if watch.fresh:
                watch.fresh, watch.heard = watch.fresh - 1, False
            elif watch.heard and (found or watch.suspected_mono_s is not None):
                watch.suspected_mono_s, watch.heard, watch.blind = None, False, 0
            elif watch.suspected_mono_s is not None and now_mono_s - watch.suspected_mono_s >= GRACE_S:
                watch.suspected_mono_s, watch.blind, blind = None, watch.blind + 1, True
                self.overflows += 1
            elif found and watch.suspected_mono_s is None:
                watch.suspected_mono_s = now_mono_s
        if blind:
            self._start_anew()
            self._watch_all()

    def close(self) -> None:
        """Watch nothing any more."""
        self._watches = {}
        self._start_anew()

    def _is_below_tree(self, folder: Path, folders: Collection[Path]) -> bool:
        return any(folder != tree and tree in folders and folder.is_relative_to(tree) for tree in self._trees)

    def _watch_all(self) -> None:
        now_mono_s = self._clock()
        for watch in self._watches.values():
            if watch.handle is None and now_mono_s >= watch.retry_mono_s:
                self._watch(watch, now_mono_s)

    def _watch(self, watch: _Watch, now_mono_s: float) -> None:
        """Watch one folder, or say why not and when to try again."""
        watch.identity = _identity(watch.folder)
        if watch.blind > 1:
            watch.blind = 1  # after an hour it is given one more chance
            watch.reason, watch.retry_mono_s = "changes came without events", now_mono_s + LONGEST_RETRY_S
        elif watch.identity is None:
            watch.reason, watch.retry_mono_s = "it is not there", 0.0
        elif kind := remote_type(str(watch.folder)):
            watch.reason, watch.retry_mono_s = f"{kind} does not tell what others change", now_mono_s + RETRY_S
        elif not os.access(watch.folder, os.R_OK):  # watchdog would say nothing and hear nothing
            watch.reason, watch.retry_mono_s = "permission denied", now_mono_s + RETRY_S
        else:
            self._schedule(watch, now_mono_s)

    def _schedule(self, watch: _Watch, now_mono_s: float) -> None:
        try:
            self._observer = self._observer or Observer(self._heard.lose)
            watch.handle = self._observer.watch(watch.folder, partial(self._hear, watch), tree=watch.tree)
        except Exception as error:  # noqa: BLE001  # of watchdog, its threads or the kernel: all of them mean polling
            number = error.errno if isinstance(error, OSError) else None
            watch.reason = _REASONS.get(number or 0, f"it cannot be watched: {type(error).__name__}: {error}")
            watch.retry_mono_s = now_mono_s + watch.retry_s
            watch.retry_s = min(2 * watch.retry_s, LONGEST_RETRY_S)
        else:
            watch.reason, watch.retry_s, watch.suspected_mono_s, watch.fresh = "", RETRY_S, None, 2
            self._heard.add({watch.folder})

    def _unwatch(self, watch: _Watch) -> None:
        handle, watch.handle = watch.handle, None
        if handle is None or self._observer is None:
            return
        try:
            self._observer.unwatch(handle)
        except Exception:  # noqa: BLE001  # its records do not fit what it did: begin from nothing
            self._start_anew()

    def _start_anew(self) -> None:
        """Give up the observer with all its threads; what was watched is to be watched again."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.retire()
        for watch in self._watches.values():
            if watch.handle is not None:
                watch.handle, watch.retry_mono_s = None, 0.0

    def _hear(self, watch: _Watch, folders: frozenset[Path]) -> None:
        """In a thread of watchdog's."""
        watch.heard = True
        self._heard.add(folders)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
