"""The one streaming pass: every item runs once, every named tensor is counted, nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trtd.calibrate.histogram import Histogram, StreamingHistogram
from trtd.errors import DataError, StageError

if TYPE_CHECKING:
    from trtd.calibrate.items import Batch

Array = NDArray[Any]
Run = Callable[[dict[str, Array]], Mapping[str, Array]]

BLOCK_VALUES = 1 << 17
"""Values that are checked, counted and left while they still lie in the cache: 512 KiB of float32."""

OVERLAP_LIMIT_BYTES = 64 << 20
"""Tensors of one batch above this are counted before the next batch runs, so that they never coexist."""


class RangeObserver:
    """Minimum, maximum and histogram of one tensor over all batches, in constant memory.

    Counting is in float32: float16 is widened, float64 rounded. ``min`` is ``inf`` until a value was seen.
    """

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        self.min = float("inf")
        self.max = float("-inf")
        self.values = 0
        self._histogram = StreamingHistogram()

    def update(self, array: Array, items: Sequence[object] = ()) -> None:
        """Count one batch of the tensor.

        Args:
            array: any shape, floating point.
            items: what the rows of ``array`` came from, for the error message.

        Raises:
            DataError: a value is NaN or infinite (as float32).
        """
        flat = array.reshape(-1)
        for start in range(0, flat.size, BLOCK_VALUES):
            block = flat[start : start + BLOCK_VALUES]
            if block.dtype != np.float32:
                with np.errstate(over="ignore"):
                    block = block.astype(np.float32)
            low, high = float(block.min()), float(block.max())
            if not (low > float("-inf") and high < float("inf")):  # NaN fails every comparison
                raise _not_finite(self.tensor, array, items)
            self._histogram.add(block, low, high)
            self.min, self.max = min(self.min, low), max(self.max, high)
        self.values += flat.size

    def histogram(self) -> Histogram:
        """What was seen so far; at least one value must have been."""
        return self._histogram.result(self.min, self.max)


def observe(
    run: Run,
    batches: Iterable[Batch],
    names: Sequence[str],
    *,
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
) -> dict[str, RangeObserver]:
    """Run every batch once and collect the range of every named tensor.

    Tensors are counted by a few threads while the next batch already runs; at most two batches of tensors are
    alive, and only one if they are large.

    Args:
        run: feeds of one batch to arrays by tensor name; more tensors than asked for do no harm.
        batches: from :meth:`trtd.calibrate.dataset.Dataset.batches`.
        names: tensors to observe. Integer and boolean ones are left out of the result.
        progress: is told the number of items that have run, after each batch.
        threads: that count; default: the processor's cores, at most 8.

    Returns:
        By tensor name, in the order of ``names``, those that held any floating-point value.

    Raises:
        DataError: there is no batch at all, or a value is not finite; names the tensor and the items.
        StageError: ``run`` did not return a named tensor.
    """
    observers = {name: RangeObserver(name) for name in names}
    done = 0
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), "count") as pool:
        counting: list[Future[None]] = []
        try:
            for batch in batches:
                tensors = _run_batch(run, batch, names)
                _finish(counting)  # an observer may not count two batches at once
                heavy = sum(array.nbytes for array in tensors.values()) > OVERLAP_LIMIT_BYTES
                counting = _count(pool, observers, tensors, batch)
                if heavy:
                    _finish(counting)
                done += len(batch.items)
                if progress is not None:
                    progress(done)
            _finish(counting)
        finally:
            for future in counting:
                future.cancel()
    if done == 0:
        raise DataError("calibration ran no item at all", hint="check that the calibration data holds items")
    return {name: observer for name, observer in observers.items() if observer.values}


def _run_batch(run: Run, batch: Batch, names: Sequence[str]) -> dict[str, Array]:
    try:
        results = run(batch.feeds)
    except StopIteration as error:
        # A StopIteration that escaped here could be taken for the end of the data by a caller that iterates.
        raise StageError(f"the model's run raised StopIteration on {_list(batch.items)}") from error
    missing = [name for name in names if name not in results]
    if missing:
        raise StageError(f"the run returned no tensor {missing[0]!r} ({len(missing)} of {len(names)} are missing)")
    return {name: array for name in names if (array := results[name]).dtype.kind == "f"}


def _count(
    pool: ThreadPoolExecutor, observers: Mapping[str, RangeObserver], tensors: dict[str, Array], batch: Batch
) -> list[Future[None]]:
    """Start counting, largest tensor first; ``tensors`` is emptied so that each dies when it is counted."""
    order = sorted(tensors, key=lambda name: -tensors[name].nbytes)
    return [pool.submit(observers[name].update, tensors.pop(name), batch.items) for name in order]


def _finish(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()


def _not_finite(tensor: str, array: Array, items: Sequence[object]) -> DataError:
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    if items and array.ndim and array.shape[0] == len(items):
        items = [item for item, rows in zip(items, bad, strict=True) if rows.any()]
    what = "NaN" if np.isnan(array).any() else "an infinite value"
    return DataError(
        f"tensor {tensor!r} holds {what} ({int(bad.sum())} of {array.size} values)",
        where=_list(items),
        hint="the model overflows on this item: look at the item and at the preprocessing, or take the item out",
    )


def _list(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:3])
    return f"{shown} and {len(items) - 3} more" if len(items) > 3 else shown
