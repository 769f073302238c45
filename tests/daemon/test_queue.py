"""The queue against a list that is sorted anew each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.messages import Capacity
from trtd.daemon.queue import Queue, Room

actions = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "start", "end"]),
        st.sampled_from("abcdef"),
        st.sampled_from(["cpu", "GPU-1"]),
        st.integers(0, 2),
        st.sampled_from([None, 10, 60, 200]),
    ),
    max_size=60,
)


@given(actions)
def test_the_head_is_that_of_a_sorted_list(history: list[tuple[str, str, str, int, int | None]]) -> None:
    """An entry that was moved or removed would still be started, or start out of turn."""
    queue, room = Queue(), Room()
    room.change(Capacity((("cpu", 2),), memory_bytes=100, build_memory_bytes=25))
    waiting: dict[str, tuple[int, int, str, int]] = {}
    running: dict[str, tuple[str, int]] = {}
    for number, (action, key, device, priority, memory_bytes) in enumerate(history):
        if action == "put" and key not in running:
            turn = waiting[key][1] if key in waiting else number
            assert queue.put(key, device, priority, memory_bytes) == (key not in waiting)
            waiting[key] = (-priority, turn, device, 25 if memory_bytes is None else memory_bytes)
        elif action == "remove":
            queue.remove(key)
            waiting.pop(key, None)
        elif action == "start" and (head := queue.head(room)) is not None:
            queue.remove(head)
            _, _, where, size = waiting.pop(head)
            running[head] = (where, size)
            room.take(head, where, size)
        elif action == "end" and running:
            ended = min(running)
            room.free(ended)
            del running[ended]
        assert len(queue) == len(waiting)
        assert queue.head(room) == _expected(waiting, running)


def _expected(waiting: dict[str, tuple[int, int, str, int]], running: dict[str, tuple[str, int]]) -> str | None:
    devices = [device for device, _ in running.values()]
    free = {"cpu": devices.count("cpu") < 2, "GPU-1": devices.count("GPU-1") < 1}
    order = sorted((place, key) for key, place in waiting.items() if free[place[2]])
    if not order:
        return None
    (_, _, _, size), key = order[0]
    fits = not running or sum(taken for _, taken in running.values()) + size <= 100
    return key if fits else None


def test_entries_that_were_moved_do_not_pile_up() -> None:
    """A spec whose priority flaps would fill the memory of the daemon."""
    queue = Queue()
    queue.put("first", "cpu", 9, None)  # keeps the others from coming to the top
    for number in range(10_000):
        queue.put("flapping", "cpu", number % 2, None)
    assert sum(map(len, queue._heaps.values())) < 100
