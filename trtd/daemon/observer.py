"""watchdog, and what is to be known about it: which events count, how its threads end, how it is given up."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from watchdog import events
from watchdog.observers import Observer as WatchdogObserver
from watchdog.observers import inotify_c
from watchdog.observers.api import BaseObserver, ObservedWatch

RETIRE_S = 2.0
IN_Q_OVERFLOW = 0x4000

Hear = Callable[[frozenset[Path]], None]
"""Is told the folders in which something happened, in a thread of watchdog's."""

# Reading must not wake anybody: the scan reads, and would wake itself. With a filter the kernel does not even tell.
_FILTER: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.DirCreatedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
    events.DirMovedEvent,
    events.FileDeletedEvent,
    events.DirDeletedEvent,
    events.FileClosedEvent,
    *filter(None, [getattr(events, "FileAttribEvent", None)]),  # before watchdog 7 these are FileModifiedEvents
]


class Observer:
    """One observer of watchdog's and its threads. Raises ``OSError`` where inotify does.

    Args:
        lose: called, in a thread of watchdog's, when the kernel has dropped events of this process.
    """

    def __init__(self, lose: Callable[[], None] = lambda: None) -> None:
        self.lose = lose
        _OBSERVERS.add(self)
        self._observer: BaseObserver = WatchdogObserver()
        self._observer.start()

    def watch(self, folder: Path, hear: Hear, *, tree: bool) -> ObservedWatch:
        """Watch a folder, with all below it if it is a ``tree``."""
        ear = _Ear(folder, hear, tree)
        return self._observer.schedule(ear, str(folder), recursive=tree, event_filter=_FILTER)

    def unwatch(self, watch: ObservedWatch) -> None:
        """Stop watching. May raise anything; the observer is to be given up then."""
        self._observer.unschedule(watch)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """All threads, those included that watchdog keeps to itself: without any one of them it is blind."""
        parts = [self._observer, getattr(self._observer, "_inotify_fd", None)]
        for emitter in list(self._observer.emitters):
            parts += [emitter, getattr(emitter, "_inotify", None)]
        return tuple(part for part in parts if isinstance(part, threading.Thread))

    def retire(self) -> None:
        """Stop everything. What hangs in it must not hang the caller, so another thread does it."""
        thread = threading.Thread(target=self._stop, name="retire-observer", daemon=True)
        thread.start()
        thread.join(RETIRE_S)

    def _stop(self) -> None:
        with contextlib.suppress(Exception):  # it is given up: nobody is left to care
            self._observer.stop()
            self._observer.join()


_OBSERVERS: weakref.WeakSet[Observer] = weakref.WeakSet()


def _notice_overflows() -> None:
    """Have all observers told when the kernel drops events: watchdog 6 keeps it to itself, 7 writes it to the log.

    Source: inotify(7), IN_Q_OVERFLOW. A watchdog that reads events in another way goes without.
    """
    for owner in (getattr(inotify_c, name, None) for name in ("InotifyFD", "Inotify")):
        if (parse := getattr(owner, "_parse_event_buffer", None)) is not None:
            owner._parse_event_buffer = staticmethod(_noticing(parse))  # type: ignore[union-attr]


def _noticing(parse: Callable[[bytes], Iterable[tuple[Any, ...]]]) -> Callable[[bytes], Iterator[tuple[Any, ...]]]:
    def parsing(buffer: bytes) -> Iterator[tuple[Any, ...]]:
        for event in parse(buffer):
            if event[1] & IN_Q_OVERFLOW:
                for observer in tuple(_OBSERVERS):
                    observer.lose()
            yield event

    return parsing


_notice_overflows()


class _Ear(events.FileSystemEventHandler):
    """Hears for one watch. An exception here would end watchdog's thread, silently."""

    def __init__(self, folder: Path, hear: Hear, tree: bool) -> None:
        self._folder = folder
        self._hear = hear
        self._is_tree = tree

    def dispatch(self, event: events.FileSystemEvent) -> None:
        with contextlib.suppress(Exception):
            self._hear(frozenset(_folders(event)) if self._is_tree else frozenset({self._folder}))


def _folders(event: events.FileSystemEvent) -> Iterator[Path]:
    for text in (event.src_path, event.dest_path):
        if text:
            path = Path(os.fsdecode(text))
            yield path.parent
            if event.is_directory:
                yield path
