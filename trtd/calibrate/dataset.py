"""A data set as the model wants it: items that are listed cheaply, streamed in order, checked one by one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.calibrate.fitting import check_header, check_names, fit_item, show, target_dtype
from trtd.calibrate.images import ImageRecipe, plan_images, read_image
from trtd.calibrate.items import Batch, ItemRef, shapes_of, stack
from trtd.calibrate.listing import Kind, Listing, list_files
from trtd.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trtd.calibrate.arrays import ArrayFile
    from trtd.model.facts import TensorFacts
    from trtd.spec.schema import Preprocess

    Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """Made by :func:`open_dataset`.

    Attributes:
        root: folder that items are named relative to.
        items: all of them, in read order.
        ignored: files and folders beside the data that were left out, for the user to see.
        inputs: of the model.
    """

    root: Path
    kind: Kind
    items: tuple[ItemRef, ...]
    ignored: tuple[str, ...]
    inputs: tuple[TensorFacts, ...]
    _recipe: ImageRecipe | None
    _arrays: Mapping[str, ArrayFile]

    @property
    def image_words(self) -> str:
        """How images become inputs, in words; empty for arrays."""
        return "" if self._recipe is None else self._recipe.words

    def load(self, item: ItemRef) -> dict[str, Array]:
        """One item, every array with a leading axis of one, in the inputs' dtypes.

        Row ``i`` of a compressed ``.npz`` costs reading the ``i`` rows before it: stream with :meth:`batches`.

        Raises:
            DataError: the item is unusable; names file and row.
        """
        for _, arrays in self._checked([item]):
            return arrays
        raise DataError("the data holds no such item", where=self._where(item))

    def batches(self, items: Sequence[ItemRef], batch: int = 1) -> Iterator[Batch]:
        """Stream items in read order, reading every file once. Items of unlike shapes never share a batch.

        If the model fixes its batch size, a batch that would stay short is filled up by repeating its rows.

        Raises:
            DataError: an item is unusable (names file and row), or ``batch`` is not what the model fixes.
        """
        fixed = self._fixed_batch()
        if fixed is not None and fixed != batch:
            raise DataError(
                f"the model's batch size is fixed at {fixed}, the data was asked for in batches of {batch}",
                hint=f"set batch = {fixed} in [calibration]",
            )
        if batch < 1 or (batch > 1 and any(not tensor.shape for tensor in self.inputs)):
            raise DataError(f"cannot batch {batch} items for this model", hint="set batch = 1 in [calibration]")
        return self._batches(items, batch, pad=fixed is not None)

    def contents(self, items: Iterable[ItemRef]) -> dict[ItemRef, str]:
        """SHA-256 of each item's content, in hex: of an image file's bytes, or of the arrays that are fed.

        One pass in read order. What the item is called, and how its file is compressed, does not enter.

        Raises:
            DataError: an item is unusable; names file and row.
        """
        if self._recipe is not None:
            return {item: _file_sha256(self.root / item.file) for item in sorted(items)}
        return {item: _arrays_sha256(arrays) for item, arrays in self._checked(items)}

    def _batches(self, items: Sequence[ItemRef], batch: int, pad: bool) -> Iterator[Batch]:
        pending: list[tuple[ItemRef, dict[str, Array]]] = []
        for item, arrays in self._checked(items):
            if pending and (len(pending) == batch or shapes_of(arrays) != shapes_of(pending[0][1])):
                yield stack(pending, batch if pad else len(pending))
                pending = []
            pending.append((item, arrays))
        if pending:
            yield stack(pending, batch if pad else len(pending))

    def _checked(self, items: Iterable[ItemRef]) -> Iterator[tuple[ItemRef, dict[str, Array]]]:
        for item, arrays in self._read(items):
            yield item, fit_item(arrays, self.inputs, self._where(item))

    def _read(self, items: Iterable[ItemRef]) -> Iterator[tuple[ItemRef, dict[str, Array]]]:
        for file, group in groupby(sorted(items), key=lambda item: item.file):
            refs = list(group)
            if self._recipe is not None:
                for item in refs:
                    yield item, {self.inputs[0].name: self._read_image(item, self._recipe)}
            else:
                rows = self._arrays[file].read([item.row for item in refs])
                yield from zip(refs, rows, strict=True)

    def _read_image(self, item: ItemRef, recipe: ImageRecipe) -> Array:
        import numpy as np

        pixels = read_image(self.root / item.file, recipe)
        dtype = target_dtype(self.inputs[0])
        if dtype.kind == "f":
            return pixels
        whole = np.rint(pixels)
        if not np.array_equal(whole, pixels):
            raise DataError(
                f"preprocess makes fractions, input {self.inputs[0].name!r} wants {dtype}",
                where=self._where(item),
                hint="set scale = 1 and leave out mean and std in [calibration.preprocess]",
            )
        return whole.astype(np.int64)

    def _where(self, item: ItemRef) -> str:
        return f"{self.root}/{item}"  # for every item: a Path would cost more than the check itself

    def _fixed_batch(self) -> int | None:
        sizes = [tensor.shape[0] for tensor in self.inputs if tensor.shape and tensor.shape[0] is not None]
        return sizes[0] if sizes else None


def open_dataset(
    path_or_glob: str,
    inputs: Sequence[TensorFacts],
    shapes: Mapping[str, Sequence[int]],
    preprocess: Preprocess | None,
    *,
    roots: Sequence[Path] = (),
) -> Dataset:
    """List a data set and check everything that can be known without loading it.

    - A folder or a glob of images feeds a model with one image input.
    - One ``.npy``: a stack of items along axis 0, for a model with one input.
    - One ``.npz``: for each input an array of that name, items along axis 0.
    - A folder or a glob of ``.npy`` or ``.npz``: where an array has the input's rank, axis 0 counts items; where it has
      one axis less, the file holds one item.

    Args:
        path_or_glob: absolute.
        inputs: of the model.
        shapes: of the inputs with open dimensions filled in; only images use it, for their size.
        preprocess: for images only.
        roots: if given, files must lie below one of them.

    Raises:
        DataError: no data, mixed or unknown kinds, or names, dtypes or shapes that do not fit; names the file.
    """
    listing = list_files(path_or_glob, roots)
    recipe: ImageRecipe | None = None
    arrays: dict[str, ArrayFile] = {}
    if listing.kind == "image":
        shape = shapes.get(inputs[0].name) if inputs else None
        recipe = plan_images(inputs, shape, preprocess)
        items = tuple(ItemRef(file) for file in listing.files)
    else:
        arrays = {file: _open_array_file(listing, file, inputs) for file in listing.files}
        items = tuple(item for file, opened in arrays.items() for item in _items_of(file, opened))
    return Dataset(listing.root, listing.kind, items, listing.ignored, tuple(inputs), recipe, arrays)


def _open_array_file(listing: Listing, file: str, inputs: Sequence[TensorFacts]) -> ArrayFile:
    from trtd.calibrate.arrays import open_arrays

    path = listing.root / file
    if listing.kind == "npy" and len(inputs) != 1:
        raise DataError(
            f"one .npy cannot feed the {len(inputs)} inputs {', '.join(tensor.name for tensor in inputs)}",
            where=str(path),
            hint="give a folder of .npz files that hold one array for each input, by its name",
        )
    opened = open_arrays(path, inputs[0].name if inputs else "")
    check_names([member.name for member in opened.members], inputs, str(path))
    tensors = {tensor.name: tensor for tensor in inputs}
    rows: dict[str, int | None] = {}
    for member in opened.members:
        tensor = tensors[member.name]
        stacked = listing.single or len(member.shape) >= max(1, len(tensor.shape))
        rows[member.name] = member.shape[0] if stacked and member.shape else None
        item_shape = member.shape[1:] if rows[member.name] is not None else member.shape
        if len(item_shape) == len(tensor.shape) - 1:
            item_shape = (1, *item_shape)
        check_header(item_shape, member.dtype, tensor, str(path))
    return dataclasses.replace(opened, rows=_common_rows(rows, path))


def _common_rows(rows: Mapping[str, int | None], path: Path) -> int | None:
    counts = set(rows.values())
    if len(counts) > 1:
        shown = ", ".join(f"{name}: {'one item' if count is None else count}" for name, count in rows.items())
        raise DataError(
            f"the arrays hold unlike numbers of items ({shown})",
            where=str(path),
            hint="axis 0 of every array counts items",
        )
    count = next(iter(counts))
    if count == 0:
        raise DataError("holds no items (axis 0 is empty)", where=str(path), hint="fill it or take it out")
    return count


def _items_of(file: str, opened: ArrayFile) -> Iterator[ItemRef]:
    if opened.rows is None:
        yield ItemRef(file)
    else:
        yield from (ItemRef(file, row) for row in range(opened.rows))


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), hint="check its permissions") from error
    return digest.hexdigest()


def _arrays_sha256(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{show(array.shape)}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
