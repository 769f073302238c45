"""From files to feeds: complete, in order, once, and loud about every bad item."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtd.calibrate import dataset as room
from trtd.calibrate.arrays import ArrayFile
from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.items import ItemRef
from trtd.errors import DataError
from trtd.model.facts import TensorFacts
from trtd.spec.schema import Preprocess

X = TensorFacts(name="x", dtype="float32", shape=(None, 2, 3))
IMAGE = TensorFacts(name="x", dtype="float32", shape=(None, 3, None, None))
SIZE = TensorFacts(name="im_shape", dtype="float32", shape=(None, 2))

STACK = np.arange(5 * 2 * 3, dtype=np.float64).reshape(5, 2, 3)


def arrays(path: Path, *inputs: TensorFacts) -> Dataset:
    return open_dataset(str(path), inputs or (X,), {}, None)


def fed(dataset: Dataset, batch: int = 1, items: Sequence[ItemRef] | None = None) -> list[Any]:
    chosen = dataset.items if items is None else items
    return [next(iter(each.feeds.values())).tolist() for each in dataset.batches(chosen, batch)]


def save_npy(path: Path, array: Any) -> Path:
    np.save(path / "x.npy", array)
    return path / "x.npy"


def save_npz(path: Path, array: Any) -> Path:
    np.savez_compressed(path / "x.npz", x=array)
    return path / "x.npz"


EVERY_WAY = pytest.mark.parametrize("save", [save_npy, save_npz])


@EVERY_WAY
@pytest.mark.parametrize("batch", [1, 2, 5, 9])
def test_a_stack_streams_every_item_once(tmp_path: Path, save: Callable[..., Path], batch: int) -> None:
    """One file, items along axis 0; no batch size may lose the rest or repeat an item."""
    dataset = arrays(save(tmp_path, STACK))
    assert dataset.items == tuple(ItemRef(dataset.items[0].file, row) for row in range(5))
    batches = list(dataset.batches(dataset.items, batch))
    assert [item for each in batches for item in each.items] == list(dataset.items)
    streamed = np.concatenate([each.feeds["x"] for each in batches])
    np.testing.assert_array_equal(streamed, STACK)
    assert streamed.dtype == np.float32
    assert all(len(each.feeds["x"]) == len(each.items) <= batch for each in batches)


@EVERY_WAY
def test_a_stack_may_keep_a_batch_axis_of_one(tmp_path: Path, save: Callable[..., Path]) -> None:
    """Recorded inputs come stacked as (items, 1, …)."""
    dataset = arrays(save(tmp_path, STACK[:, np.newaxis]))
    assert fed(dataset) == [[item] for item in STACK.tolist()]


def test_a_folder_of_npy_holds_items_or_stacks(tmp_path: Path) -> None:
    """The rank tells: as many axes as the input means a stack, one less an item."""
    np.save(tmp_path / "a.npy", STACK[0])
    np.save(tmp_path / "b.npy", STACK[1:3])
    dataset = arrays(tmp_path)
    assert dataset.items == (ItemRef("a.npy"), ItemRef("b.npy", 0), ItemRef("b.npy", 1))
    assert fed(dataset) == [[item] for item in STACK[:3].tolist()]
    assert [str(item) for item in dataset.items] == ["a.npy", "b.npy[0]", "b.npy[1]"]


def test_a_folder_of_npz_feeds_several_inputs(tmp_path: Path) -> None:
    """Detection models take the image and its size; both must come from the same item."""
    np.savez(tmp_path / "a.npz", x=STACK[0], im_shape=[1.0, 2.0])
    np.savez_compressed(tmp_path / "b.npz", im_shape=[[3.0, 4.0], [5.0, 6.0]], x=STACK[1:3])
    dataset = arrays(tmp_path, X, SIZE)
    feeds = [batch.feeds for batch in dataset.batches(dataset.items)]
    assert [list(each) for each in feeds] == [["x", "im_shape"]] * 3
    assert [each["im_shape"].tolist() for each in feeds] == [[[1, 2]], [[3, 4]], [[5, 6]]]
    assert [each["x"][0, 0, 0] for each in feeds] == [0, 6, 12]


def test_load_is_one_item_of_the_stream(tmp_path: Path) -> None:
    """Verification loads single items; they must be what calibration streams."""
    dataset = arrays(save_npz(tmp_path, STACK))
    loaded = [dataset.load(item)["x"].tolist() for item in reversed(dataset.items)]
    assert loaded == fed(dataset)[::-1]


def test_a_subset_is_read_in_order_and_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going back in a compressed file means reading it again from its start."""
    for name in "ab":
        np.savez_compressed(tmp_path / f"{name}.npz", x=STACK)
    dataset = arrays(tmp_path)
    reads: list[str] = []
    plain = ArrayFile.read

    def read(self: ArrayFile, rows: Sequence[int | None]) -> Iterator[dict[str, Any]]:
        reads.append(self.path.name)
        return plain(self, rows)

    monkeypatch.setattr(ArrayFile, "read", read)
    wanted = [ItemRef("b.npz", 3), ItemRef("a.npz", 4), ItemRef("b.npz", 0), ItemRef("a.npz", 1)]
    batches = list(dataset.batches(wanted, 3))
    assert [item for batch in batches for item in batch.items] == sorted(wanted)
    assert reads == ["a.npz", "b.npz"]


@pytest.mark.parametrize(
    ("save", "values", "inputs", "message"),
    [
        (save_npy, STACK.transpose(0, 2, 1), [X], "wants shape"),
        (save_npy, STACK[0], [X], "wants shape"),
        (save_npy, STACK[:0], [X], "no items"),
        (save_npy, STACK.astype(complex), [X], "no model input"),
        (save_npy, STACK, [X, SIZE], "one .npy cannot feed the 2 inputs x, im_shape"),
        (save_npz, STACK, [SIZE], "no input 'x'; nothing for input 'im_shape'"),
        (save_npz, STACK.astype(object), [X], "never loaded"),
    ],
)
def test_what_the_header_tells_is_refused_before_anything_is_read(
    tmp_path: Path, save: Callable[..., Path], values: Any, inputs: list[TensorFacts], message: str
) -> None:
    """Hours into a pass is late for news that the first byte held."""
    path = save(tmp_path, values)
    with pytest.raises(DataError, match=message) as caught:
        arrays(path, *inputs)
    assert caught.value.where == str(path)


def test_unlike_numbers_of_items_are_refused(tmp_path: Path) -> None:
    """Three images and two sizes pair up wrongly from some row on."""
    np.savez(tmp_path / "x.npz", x=STACK[:3], im_shape=np.zeros((2, 2)))
    with pytest.raises(DataError, match="unlike numbers of items"):
        arrays(tmp_path / "x.npz", X, SIZE)


@EVERY_WAY
@pytest.mark.parametrize("row", [0, 2, 4])
def test_a_bad_row_is_named_and_ends_nothing_in_silence(tmp_path: Path, save: Callable[..., Path], row: int) -> None:
    """The first of the seven silent failures: a bad batch that is taken for the end of the data."""
    values = STACK.copy()
    values[row, 0, 0] = np.nan
    dataset = arrays(save(tmp_path, values))
    stream = dataset.batches(dataset.items)
    for _ in range(row - 1):  # a batch is handed out when the next item is known
        next(stream)
    with pytest.raises(DataError, match="NaN") as caught:
        list(stream)
    assert caught.value.where == str(dataset.root / f"{dataset.items[0].file}[{row}]")


def test_stop_iteration_in_a_reader_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A StopIteration from anywhere below must surface, or the pass ends early and looks complete."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    dataset = open_dataset(str(tmp_path), [IMAGE], {"x": (1, 3, 4, 4)}, None)

    def stop(*_: Any) -> Any:
        raise StopIteration

    monkeypatch.setattr(room, "read_image", stop)
    with pytest.raises(RuntimeError):
        list(dataset.batches(dataset.items))
    with pytest.raises(RuntimeError):
        dataset.load(dataset.items[0])


def test_rows_that_went_missing_since_listing_are_an_error(tmp_path: Path) -> None:
    """A file that was replaced by a shorter one between two stages must not shorten the set."""
    dataset = arrays(save_npy(tmp_path, STACK))
    save_npy(tmp_path, STACK[:3])
    with pytest.raises(DataError, match=r"too early"):
        fed(dataset)


def test_images_feed_the_model(tmp_path: Path) -> None:
    """Names sort the items, the recipe shapes them, labels stay out and are reported."""
    for index, name in enumerate(["b.png", "a.png"]):
        Image.new("RGB", (4, 2), (index * 255, 0, 0)).save(tmp_path / name)
    (tmp_path / "labels.txt").touch()
    dataset = open_dataset(str(tmp_path), [IMAGE], {"x": (1, 3, 8, 8)}, None)
    assert [item.file for item in dataset.items] == ["a.png", "b.png"]
    assert dataset.ignored == ("labels.txt",)
    assert [np.array(each).shape for each in fed(dataset)] == [(1, 3, 8, 8)] * 2
    assert [each[0][0][0][0] for each in fed(dataset)] == [1, 0]


def test_items_of_unlike_sizes_never_share_a_batch(tmp_path: Path) -> None:
    """Recorded arrays may differ in open dimensions: a batch closes early then, and none may be dropped for it."""
    for index, width in enumerate([4, 4, 6, 4]):
        np.save(tmp_path / f"{index}.npy", np.zeros((3, 4, width), np.float32))
    dataset = open_dataset(str(tmp_path), [IMAGE], {}, None)
    assert [len(batch.items) for batch in dataset.batches(dataset.items, 3)] == [2, 1, 1]


def test_integer_inputs_take_pixels_and_refuse_fractions(tmp_path: Path) -> None:
    """A model that normalizes by itself takes 0..255; scaled to 0..1 it would see black."""
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "a.png")
    raw = TensorFacts(name="x", dtype="uint8", shape=(None, 4, 4, 3))
    dataset = open_dataset(str(tmp_path), [raw], {}, None)
    assert dataset.load(dataset.items[0])["x"].dtype == np.uint8
    assert fed(dataset)[0][0][0][0] == [200, 100, 50]
    scaled = open_dataset(str(tmp_path), [raw], {}, Preprocess(layout="nhwc"))
    with pytest.raises(DataError, match="fractions") as caught:
        scaled.load(scaled.items[0])
    assert "scale = 1" in caught.value.hint


def test_a_fixed_batch_size_is_asked_for_and_filled_up(tmp_path: Path) -> None:
    """Some exports fix the batch; a short last batch cannot run, and dropping it would lose items."""
    fixed = X.model_copy(update={"shape": (2, 2, 3)})
    dataset = arrays(save_npy(tmp_path, STACK), fixed)
    with pytest.raises(DataError, match="fixed at 2") as caught:
        dataset.batches(dataset.items, 1)
    assert "batch = 2" in caught.value.hint
    batches = list(dataset.batches(dataset.items, 2))
    assert [len(batch.items) for batch in batches] == [2, 2, 1]
    assert batches[-1].feeds["x"].tolist() == [STACK[4].tolist()] * 2


def test_content_ignores_names_and_packing(tmp_path: Path) -> None:
    """Disjointness is judged by content; the same values in other files or dtypes are the same item."""
    np.save(tmp_path / "a.npy", STACK)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "one.npy", STACK[1].astype(np.float32))
    stack, folder = arrays(tmp_path / "a.npy"), arrays(tmp_path / "folder")
    contents = stack.contents(stack.items)
    assert len(set(contents.values())) == 5
    assert contents[ItemRef("a.npy", 1)] == folder.contents(folder.items)[ItemRef("one.npy")]


def test_content_of_an_image_is_its_file(tmp_path: Path) -> None:
    """Two names, one picture: one content."""
    for name, red in (("a.png", 1), ("b.png", 2), ("c.png", 1)):
        Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / name)
    dataset = open_dataset(str(tmp_path), [IMAGE], {"x": (1, 3, 4, 4)}, None)
    contents = dataset.contents(dataset.items)
    assert contents[ItemRef("a.png")] == contents[ItemRef("c.png")] != contents[ItemRef("b.png")]


def test_listing_images_opens_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing a large set must cost no more than looking at it."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    assert len(open_dataset(str(tmp_path), [IMAGE], {"x": (1, 3, 4, 4)}, None).items) == 1
