"""Which items calibrate and which judge. The two sets never share content, and their digests prove it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtd.calibrate.dataset import Dataset
from trtd.calibrate.items import ItemRef
from trtd.errors import DataError

MIN_CALIBRATION = 2
MIN_HELDOUT = 8
HELDOUT_SHARE = 0.1


@dataclass(frozen=True)
class Selection:
    """Items of one data set, all of different content.

    Attributes:
        items: in read order.
        contents: SHA-256 of each item's content, in hex, in the order of ``items``.
        duplicates: items that were passed over since their content was selected already.
    """

    items: tuple[ItemRef, ...]
    contents: tuple[str, ...]
    duplicates: tuple[ItemRef, ...] = ()

    @property
    def digest(self) -> str:
        """``sha256:…`` over the contents, sorted: names, order and preprocessing do not enter."""
        return set_digest(self.contents)

    @property
    def order_digest(self) -> str:
        """``sha256:…`` over the contents in read order, for what is stored or labelled item by item."""
        return _digest(self.contents)


@dataclass(frozen=True)
class Split:
    """One data set, taken apart: disjoint in content."""

    calibration: tuple[ItemRef, ...]
    heldout: tuple[ItemRef, ...]
    calibration_digest: str
    heldout_digest: str
    heldout_order_digest: str
    duplicates: tuple[ItemRef, ...] = ()


def split(dataset: Dataset, samples: int) -> Split:
    """Hold items out for verification and choose calibration items from the rest.

    10 % of the items that could be used for calibration are held out, at least 8. Which items is decided by the hash
    of their names, so that it is the same on every machine and adding files moves few of the others. Content is read
    for the chosen items only.

    Raises:
        DataError: fewer than 2 items are left to calibrate on, or an item is unusable.
    """
    distinct, duplicates = _take(dataset, samples + _heldout_count(samples))
    heldout_count = _heldout_count(min(len(distinct), samples))
    left = len(distinct) - heldout_count
    if left < MIN_CALIBRATION:
        raise DataError(
            f"{_items(len(distinct), duplicates)}: {heldout_count} are held out for verification, which leaves "
            f"{max(left, 0)} for calibration; at least {MIN_CALIBRATION} are needed",
            where=str(dataset.root),
            hint=f"add data ({heldout_count + MIN_CALIBRATION} different items or more; some hundred calibrate well), "
            "or give the verification its own with [verify] data",
        )
    heldout = _selection(distinct[:heldout_count], duplicates)
    calibration = _selection(distinct[heldout_count : heldout_count + samples], duplicates)
    return Split(
        calibration.items,
        heldout.items,
        calibration.digest,
        heldout.digest,
        heldout.order_digest,
        tuple(duplicates),
    )


def select(dataset: Dataset, samples: int | None, *, at_least: int = MIN_CALIBRATION) -> Selection:
    """Choose up to ``samples`` items (``None``: all) of a data set that serves one purpose only.

    Raises:
        DataError: fewer than ``at_least`` items of different content, or an item is unusable.
    """
    distinct, duplicates = _take(dataset, len(dataset.items) if samples is None else samples)
    if len(distinct) < at_least:
        raise DataError(
            f"{_items(len(distinct), duplicates)}; at least {at_least} are needed",
            where=str(dataset.root),
            hint="add data of different content",
        )
    return _selection(distinct, duplicates)


def check_disjoint(calibration: Selection, heldout: Selection) -> None:
    """Raise ``DataError`` if any content stands in both sets; names up to three of the files."""
    judged = dict(zip(heldout.contents, heldout.items, strict=True))
    shared = [
        (item, judged[content])
        for item, content in zip(calibration.items, calibration.contents, strict=True)
        if content in judged
    ]
    if shared:
        pairs = [str(mine) if mine == other else f"{mine} (held out as {other})" for mine, other in shared[:3]]
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise DataError(
            f"calibration and held-out data share {len(shared)} of {len(heldout.items)} held-out items: "
            f"{', '.join(pairs)}{more}",
            hint="an engine may not be judged by what it was tuned on: give [verify] data other items, or leave it "
            "out to have items held out",
        )


def set_digest(contents: Iterable[str]) -> str:
    """``sha256:…`` over content digests in hex, sorted."""
    return _digest(sorted(contents))


def _digest(contents: Iterable[str]) -> str:
    return "sha256:" + hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _take(dataset: Dataset, count: int) -> tuple[list[tuple[ItemRef, str]], list[ItemRef]]:
    """The first ``count`` items of different content in the stable order, and the duplicates passed over."""
    order = sorted(dataset.items, key=_stable_key)
    distinct: dict[str, ItemRef] = {}
    duplicates: list[ItemRef] = []
    looked_at = 0
    while len(distinct) < count and looked_at < len(order):
        # Rows deep in a compressed file are costly one by one, so whole bunches are hashed in read order.
        wanted = order[looked_at : looked_at + max(count - len(distinct), looked_at)]
        contents = dataset.contents(wanted)
        looked_at += len(wanted)
        for item in wanted:
            if contents[item] in distinct:
                duplicates.append(item)
            elif len(distinct) < count:
                distinct[contents[item]] = item
    return [(item, content) for content, item in distinct.items()], duplicates


def _stable_key(item: ItemRef) -> bytes:
    return hashlib.sha256(f"{item.file}\0{'' if item.row is None else item.row}".encode()).digest()


def _heldout_count(items: int) -> int:
    return max(MIN_HELDOUT, math.ceil(HELDOUT_SHARE * items))


def _selection(chosen: Sequence[tuple[ItemRef, str]], duplicates: Sequence[ItemRef]) -> Selection:
    ordered = sorted(chosen)
    return Selection(tuple(item for item, _ in ordered), tuple(content for _, content in ordered), tuple(duplicates))


def _items(distinct: int, duplicates: Sequence[ItemRef]) -> str:
    text = f"{distinct} item{'' if distinct == 1 else 's'}"
    return f"{text} of different content ({len(duplicates)} are duplicates)" if duplicates else text
