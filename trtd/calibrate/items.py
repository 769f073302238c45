"""What runs through the model: one item, and a batch of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class ItemRef(NamedTuple):
    """One item: a file, relative to the data set's root, and its row if the file holds several. Sorts in read order."""

    file: str
    row: int | None = None

    def __str__(self) -> str:
        return self.file if self.row is None else f"{self.file}[{self.row}]"


@dataclass(frozen=True)
class Batch:
    """Items that run together.

    Attributes:
        items: in the order of the rows.
        feeds: by input name; one row for each item, and repeated rows after them if the model's batch size is fixed.
    """

    items: tuple[ItemRef, ...]
    feeds: dict[str, Array]


def shapes_of(arrays: Mapping[str, Array]) -> list[tuple[int, ...]]:
    """The shapes, in order: equal for items that can share a batch."""
    return [array.shape for array in arrays.values()]


def stack(pending: Sequence[tuple[ItemRef, dict[str, Array]]], rows: int) -> Batch:
    """Join items of equal shapes along axis 0; repeats them from the start until there are ``rows``."""
    import numpy as np

    items = tuple(item for item, _ in pending)
    first = pending[0][1]
    if rows == 1:
        return Batch(items, first)
    chosen = [pending[i % len(pending)][1] for i in range(rows)]
    return Batch(items, {name: np.concatenate([arrays[name] for arrays in chosen]) for name in first})
