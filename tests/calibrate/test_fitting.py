"""An array feeds an input only if nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtd.calibrate.fitting import check_names, fit_item
from trtd.errors import DataError
from trtd.model.facts import TensorFacts

IMAGE = TensorFacts(name="image", dtype="float32", shape=(None, 3, None, 4))
SIZE = TensorFacts(name="im_shape", dtype="int64", shape=(None, 2))
SCALAR = TensorFacts(name="factor", dtype="float32", shape=())


def fit(array: Any, tensor: TensorFacts = IMAGE) -> np.ndarray[Any, Any]:
    return fit_item({tensor.name: np.asarray(array)}, [tensor], "data/7.npz[3]")[tensor.name]


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool", ">f4"])
def test_numbers_that_convert_safely_do(dtype: str) -> None:
    """People save float64 and uint8; neither is worth an error."""
    fitted = fit(np.ones((1, 3, 5, 4), dtype=dtype))
    assert fitted.dtype == np.float32
    assert fitted.dtype.isnative
    assert fitted.flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "tensor"),
    [
        (np.ones((3, 5, 4)), IMAGE),
        (np.ones((1, 3, 5, 4)), IMAGE),
        (np.array([640, 480], dtype=np.int32), SIZE),
        (np.array(2.0), SCALAR),
    ],
)
def test_the_leading_axis_may_be_missing(array: Any, tensor: TensorFacts) -> None:
    """An item is an item with or without its batch axis; a scalar has none."""
    assert fit(array, tensor).shape == ((1, *array.shape[-len(tensor.shape) + 1 :]) if tensor.shape else ())


@pytest.mark.parametrize(
    ("array", "tensor", "message"),
    [
        (np.ones((5, 4, 3)), IMAGE, "wants shape"),
        (np.ones((2, 3, 5, 4)), IMAGE, "wants shape"),
        (np.ones((3, 0, 4)), IMAGE, "wants shape"),
        (np.ones(4), IMAGE, "wants shape"),
        (np.ones((1, 1, 3, 5, 4)), IMAGE, "wants shape"),
        (np.full((3, 5, 4), np.nan), IMAGE, "holds NaN"),
        (np.full((3, 5, 4), -np.inf), IMAGE, "holds an infinite value"),
        (np.full((3, 5, 4), 1e300), IMAGE, "cannot hold"),
        (np.ones(2), SIZE, "would lose"),
        (np.array([2**63, 1], dtype=np.uint64), SIZE, "cannot hold"),
        (np.ones((3, 5, 4), dtype=complex), IMAGE, "would lose"),
        (np.array(["a", "b"]), SIZE, "would lose"),
        (np.full((3, 5, 4), None), IMAGE, "would lose"),
    ],
)
def test_what_would_be_lost_or_does_not_fit_is_refused(array: Any, tensor: TensorFacts, message: str) -> None:
    """Calibrating on wrapped integers, NaN or transposed images gives scales that look fine."""
    with pytest.raises(DataError, match=message) as caught:
        fit(array, tensor)
    assert caught.value.where == "data/7.npz[3]"
    assert tensor.name in caught.value.message
    assert caught.value.hint


def test_all_names_that_differ_are_listed_with_what_was_meant() -> None:
    """One error for all of them, or mending the file takes as many runs as it has faults."""
    with pytest.raises(DataError) as caught:
        check_names(["imge", "im_shape", "zzz"], [IMAGE, SIZE, SCALAR], "a.npz")
    assert caught.value.message == (
        "no input 'imge' (did you mean 'image'?); no input 'zzz'; nothing for input 'image'; nothing for input 'factor'"
    )


def test_inputs_that_numpy_cannot_hold_are_named() -> None:
    """bfloat16 has no numpy dtype; that must not end in a TypeError."""
    with pytest.raises(DataError, match="bfloat16"):
        fit(np.ones(3), TensorFacts(name="x", dtype="bfloat16", shape=(None, 3)))
