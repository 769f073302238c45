"""What waits to be built, in which order, and what there is room for.

The rule: highest priority first, then first come, first served. A subject whose *device* has no free slot lets those
for other devices pass. One that only lacks *memory* lets nobody pass: nothing behind it is started until enough of what
runs has ended. So small builds never keep a large one waiting for ever.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from trtd.daemon.messages import Capacity

UNLIMITED = Capacity(slots=(), memory_bytes=2**63, build_memory_bytes=0)


@dataclass(frozen=True, slots=True)
class Place:
    """``order``: smaller comes first; ``memory_bytes``: ``None`` if the spec says nothing."""

    device: str
    order: tuple[int, int]
    memory_bytes: int | None


class Queue:
    """Keys in order, a heap for each device. Entries that were replaced are dropped when they come to the top."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._heaps: dict[str, list[tuple[tuple[int, int], str]]] = {}
        self._came = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def put(self, key: str, device: str, priority: int, memory_bytes: int | None) -> bool:
        """Queue a key; one that is queued keeps its turn within its priority. Gives whether it was not queued."""
        old = self._places.get(key)
        if old is None:
            self._came += 1
        place = Place(device, (-priority, old.order[1] if old else self._came), memory_bytes)
        if place != old:
            self._places[key] = place
            heap = self._heaps.setdefault(device, [])
            heapq.heappush(heap, (place.order, key))
            if len(heap) > 2 * len(self._places) + 64:
                live = [(p.order, k) for k, p in self._places.items() if p.device == device]
                heapq.heapify(live)
                self._heaps[device] = live
        return old is None

    def remove(self, key: str) -> None:
        self._places.pop(key, None)

    def head(self, room: Room) -> str | None:
        """The next to start, by the rule above; ``None`` if nothing can be started now."""
        heads = [head for device in list(self._heaps) if room.has_slot(device) and (head := self._first(device))]
        if not heads:
            return None
        _, key = min(heads)
        return key if room.has_memory(self._places[key].memory_bytes) else None

    def _first(self, device: str) -> tuple[tuple[int, int], str] | None:
        heap = self._heaps[device]
        while heap:
            order, key = heap[0]
            place = self._places.get(key)
            if place is not None and (place.device, place.order) == (device, order):
                return heap[0]
            heapq.heappop(heap)
        del self._heaps[device]
        return None


class Room:
    """What running builds leave free of the capacity."""

    def __init__(self) -> None:
        self.capacity = UNLIMITED
        self._slots: dict[str, int] = {}
        self._taken: dict[str, tuple[str, int]] = {}
        self._by_device: Counter[str] = Counter()
        self._memory_bytes = 0

    def change(self, capacity: Capacity) -> None:
        """Takes effect for what is started from now on."""
        self.capacity, self._slots = capacity, dict(capacity.slots)

    def slots(self, device: str) -> int:
        return self._slots.get(device, 1)

    def running(self, device: str) -> int:
        return self._by_device[device]

    def has_slot(self, device: str) -> bool:
        return self._by_device[device] < self.slots(device)

    def has_memory(self, memory_bytes: int | None) -> bool:
        """Whether a build fits beside the others; alone, any does."""
        return not self._taken or self._memory_bytes + self._counted(memory_bytes) <= self.capacity.memory_bytes

    def take(self, key: str, device: str, memory_bytes: int | None) -> None:
        counted = self._counted(memory_bytes)
        self._taken[key] = (device, counted)
        self._by_device[device] += 1
        self._memory_bytes += counted

    def free(self, key: str) -> None:
        device, counted = self._taken.pop(key)
        self._by_device[device] -= 1
        self._memory_bytes -= counted

    def _counted(self, memory_bytes: int | None) -> int:
        return self.capacity.build_memory_bytes if memory_bytes is None else memory_bytes
