"""Feeds are checked by name, dtype and shape before a backend sees them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from trtd.engines.feeds import check_feeds, describe
from trtd.errors import EngineError
from trtd.model.facts import TensorFacts

IMAGE = TensorFacts(name="image", dtype="float32", shape=(None, 3, 8, None))
SIZE = TensorFacts(name="size", dtype="int64", shape=(None, 2))
SCALAR = TensorFacts(name="scalar", dtype="bool", shape=())
GOOD: dict[str, Any] = {
    "image": np.zeros((2, 3, 8, 5), np.float32),
    "size": np.zeros((2, 2), np.int64),
    "scalar": np.array(True),
}


def test_what_fits_passes() -> None:
    """Open dimensions take any extent, zero included; the order of the names does not matter."""
    check_feeds([IMAGE, SIZE, SCALAR], GOOD)
    check_feeds([SCALAR, SIZE, IMAGE], GOOD | {"image": np.zeros((0, 3, 8, 1), np.float32)})
    check_feeds([], {})


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"imgae": GOOD["image"]}, "there is no input 'imgae'", "did you mean 'image'"),
        ({"other": GOOD["image"]}, "there is no input 'other'", "the inputs are image, size, scalar"),
        ({"image": None}, "input 'image' is missing", r"pass float32 \[\?, 3, 8, \?\]"),
        ({"image": [[1.0]]}, "is a list", "pass float32"),
        ({"image": np.float32(1)}, "is a float32, not a numpy array", "pass float32"),
        (
            {"image": np.zeros((2, 3, 8, 5))},
            r"is float64 of shape \[2, 3, 8, 5\], not float32 \[\?, 3, 8, \?\]",
            "astype",
        ),
        ({"image": np.zeros((2, 3, 8, 5), ">f4")}, "is >f4 of shape", "astype"),
        ({"image": np.zeros((2, 4, 8, 5), np.float32)}, r"of shape \[2, 4, 8, 5\]", "reshape"),
        ({"image": np.zeros((3, 8, 5), np.float32)}, r"of shape \[3, 8, 5\]", "reshape"),
        ({"size": np.zeros((2, 2), np.int32)}, r"is int32 of shape \[2, 2\], not int64 \[\?, 2\]", "astype"),
        ({"scalar": np.array([True])}, r"is bool of shape \[1\], not bool \[\]", "reshape"),
        ({"image": np.array("text", object)}, "is object of shape", "astype"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str, hint: str) -> None:
    """What was given, what is wanted, and what to do about it, in one line each."""
    with pytest.raises(EngineError, match=message) as caught:
        check_feeds([IMAGE, SIZE, SCALAR], GOOD | change)
    assert caught.value.where in change
    assert re.search(hint, caught.value.hint)


def test_descriptions_read_like_shapes() -> None:
    """They stand in messages; a None in them would need explaining."""
    assert describe(IMAGE) == "float32 [?, 3, 8, ?]"
    assert describe(SCALAR) == "bool []"
