"""The pass over the data: bounded, complete, and never silent about a value that is no number."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from trtd.calibrate import observe as room
from trtd.calibrate.items import Batch, ItemRef
from trtd.calibrate.observe import RangeObserver, observe
from trtd.errors import DataError, StageError

Feeds = Mapping[str, np.ndarray[Any, Any]]


def batches(count: int, rows: int = 1) -> Iterator[Batch]:
    for start in range(0, count, rows):
        items = tuple(ItemRef(f"{i:03}.png") for i in range(start, min(start + rows, count)))
        values = np.array([[i, -i] for i in range(start, start + len(items))], dtype=np.float32)
        yield Batch(items, {"x": values})


def run(feeds: Feeds) -> dict[str, np.ndarray[Any, Any]]:
    return {"double": feeds["x"] * 2, "index": feeds["x"].astype(np.int64), "mask": feeds["x"] > 0, "x": feeds["x"]}


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (3, 2), (10, 4)])
def test_every_item_is_counted_once(rows: int, threads: int) -> None:
    """Overlapping counting with the next run must lose or repeat nothing."""
    told: list[int] = []
    seen = observe(run, batches(10, rows), ["double", "x"], progress=told.append, threads=threads)
    assert (seen["double"].min, seen["double"].max, seen["double"].values) == (-18, 18, 20)
    assert seen["x"].histogram().values == 20
    assert told[-1] == 10
    assert told == sorted(told)


def test_integer_and_boolean_tensors_are_left_out() -> None:
    """Indices and masks are never quantized; observing them would put scales on shapes."""
    assert list(observe(run, batches(3), ["index", "double", "mask"])) == ["double"]


def test_large_tensors_do_not_coexist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a batch must be counted to the end before the next one runs, or the peak doubles."""
    monkeypatch.setattr(room, "OVERLAP_LIMIT_BYTES", 4)
    alive = 0
    lock = threading.Lock()
    plain = RangeObserver.update

    def update(self: RangeObserver, array: Any, items: Any = ()) -> None:
        nonlocal alive
        plain(self, array, items)
        with lock:
            alive -= 1

    def counting_run(feeds: Feeds) -> dict[str, np.ndarray[Any, Any]]:
        nonlocal alive
        with lock:
            assert alive == 0
            alive += 2
        return run(feeds)

    monkeypatch.setattr(RangeObserver, "update", update)
    observe(counting_run, batches(20), ["double", "x"], threads=2)
    assert alive == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 4])
def test_names_tensor_and_items_of_a_value_that_is_no_number(bad: float, rows: int) -> None:
    """fast_histogram skips NaN in silence: a broken model would get scales from what was left."""

    def broken(feeds: Feeds) -> dict[str, np.ndarray[Any, Any]]:
        return {"t": np.where(feeds["x"] == 5, np.float32(bad), feeds["x"])}

    with pytest.raises(DataError, match=r"'t'.*1 of ") as caught:
        observe(broken, batches(12, rows), ["t"])
    assert caught.value.where == "005.png"


def test_names_all_items_where_rows_are_not_items() -> None:
    """A tensor whose first axis is not the batch cannot tell which item is at fault; naming none would help nobody."""
    observer = RangeObserver("t")
    with pytest.raises(DataError) as caught:
        observer.update(np.array([np.nan]), [ItemRef(f"{i}.png") for i in range(5)])
    assert caught.value.where == "0.png, 1.png, 2.png and 2 more"


def test_overflow_to_float32_is_no_number() -> None:
    """A float64 tensor beyond float32 cannot be quantized; its range would be infinite."""
    with pytest.raises(DataError, match="'t'"):
        RangeObserver("t").update(np.array([1e300]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_other_floats_strided_arrays_and_scalars_are_counted(dtype: type[np.floating[Any]]) -> None:
    """Engines return half and double tensors, transposed views and scalars too."""
    observer = RangeObserver("t")
    observer.update(np.arange(12, dtype=dtype).reshape(3, 4).T[::2])
    observer.update(np.array(-2, dtype=dtype))
    observer.update(np.zeros((0, 4), dtype=dtype))
    assert (observer.min, observer.max, observer.values) == (-2, 10, 7)
    assert observer.histogram().values == 7


def test_blocks_of_a_large_tensor_all_count() -> None:
    """Tensors are counted block by block; the last, shorter block and the extremes in it belong to it."""
    values = np.zeros(room.BLOCK_VALUES * 2 + 5, dtype=np.float32)
    values[-1], values[room.BLOCK_VALUES] = 3, -4
    observer = RangeObserver("t")
    observer.update(values)
    assert (observer.min, observer.max, observer.histogram().values) == (-4, 3, values.size)


def test_an_error_in_the_data_ends_the_pass_as_itself() -> None:
    """A bad item that was taken for the end of the data would calibrate on what came before it."""

    def torn() -> Iterator[Batch]:
        yield from batches(3)
        raise DataError("torn", where="003.png")

    with pytest.raises(DataError, match=r"003\.png"):
        observe(run, torn(), ["double"])


def test_stop_iteration_of_the_run_is_not_the_end() -> None:
    """StopIteration that leaks from a callback ends loops in silence."""

    def stopping(feeds: Feeds) -> dict[str, np.ndarray[Any, Any]]:
        raise StopIteration

    with pytest.raises(StageError, match="StopIteration"):
        observe(stopping, batches(3), ["double"])


def test_no_batch_and_missing_tensors_are_errors() -> None:
    """Observing nothing must not look like a finished calibration."""
    with pytest.raises(DataError, match="no item"):
        observe(run, iter(()), ["double"])
    with pytest.raises(StageError, match="'absent'"):
        observe(run, batches(2), ["absent", "double"])
