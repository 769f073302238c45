"""The data that a stage is given: which items of which set, how they become inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.items import Batch, ItemRef
from trtd.calibrate.split import set_digest
from trtd.document import Document
from trtd.errors import DataError
from trtd.model.facts import TensorFacts
from trtd.spec.schema import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

TIMING_FEEDS = 8


class Feed(Document):
    """Chosen items of one data set.

    Attributes:
        path: absolute path or glob of the whole set.
        items: file and row of each chosen item.
        digest: of the chosen items' content, whatever their order.
        order_digest: of the same in read order; empty where order does not count.
        inputs: of the model.
        shapes: of its inputs, closed; images are resized to them.
        roots: folders that files may be in.
    """

    path: str
    items: tuple[tuple[str, int | None], ...]
    digest: str
    order_digest: str
    inputs: tuple[TensorFacts, ...]
    shapes: dict[str, tuple[int, ...]]
    preprocess: Preprocess | None
    roots: tuple[Path, ...]

    def refs(self) -> list[ItemRef]:
        return [ItemRef(file, row) for file, row in self.items]

    def open(self) -> Dataset:
        return open_dataset(self.path, self.inputs, self.shapes, self.preprocess, roots=self.roots)

    def batches(self, batch: int = 1) -> Iterator[Batch]:
        """The chosen items, streamed. A model of fixed batch size is always fed that many."""
        return self.open().batches(self.refs(), self.fixed_batch or batch)

    def refuse_changed(self) -> None:
        """Raise ``DataError`` if the items are not those that the build was planned with."""
        dataset, refs = self.open(), self.refs()
        if set_digest(dataset.contents(refs).values()) != self.digest:
            raise DataError(
                "the data changed while it was being read",
                where=self.path,
                hint="run the command again once nobody writes there any more",
            )

    @property
    def fixed_batch(self) -> int | None:
        """Batch size that the model fixes; None if it leaves it open."""
        return next((t.shape[0] for t in self.inputs if t.shape and t.shape[0] is not None), None)

    def timing_feeds(self, batch: int) -> list[dict[str, Array]]:
        """A few inputs of ``batch`` items each, real ones, repeated where the set is smaller than a batch."""
        step = max(1, batch // (self.fixed_batch or 1))
        import numpy as np

        singles = [b.feeds for b in islice(self.batches(), TIMING_FEEDS * step)]
        alike = [feeds for feeds in singles if _shapes(feeds) == _shapes(singles[0])]
        feeds = []
        for start in range(0, max(1, len(alike) - step + 1), step):
            chosen = [alike[(start + i) % len(alike)] for i in range(step)]
            feeds.append({name: np.concatenate([one[name] for one in chosen]) for name in chosen[0]})
        return feeds


def _shapes(feeds: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [array.shape for array in feeds.values()]
