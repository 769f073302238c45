"""Does an array fit the input it is meant for? By its header when a file is opened, by its values when it is loaded."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from trtd.errors import DataError

if TYPE_CHECKING:  # numpy is imported where it works: `trtd check` on images does without
    import numpy as np
    from numpy.typing import NDArray

    from trtd.model.facts import TensorFacts

    Array = NDArray[Any]


def check_names(names: Iterable[str], inputs: Sequence[TensorFacts], where: str) -> None:
    """Raise ``DataError`` unless ``names`` are exactly the model's inputs; lists all that differ."""
    given, wanted = set(names), [tensor.name for tensor in inputs]
    unknown, missing = sorted(given - set(wanted)), [name for name in wanted if name not in given]
    if not unknown and not missing:
        return
    faults = []
    for name in unknown:
        close = difflib.get_close_matches(name, missing or wanted, n=1)
        faults.append(f"no input {name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    faults += [f"nothing for input {name!r}" for name in missing]
    raise DataError(
        "; ".join(faults),
        where=where,
        hint=f"name the arrays after the model's inputs: numpy.savez(path, {', '.join(f'{n}=…' for n in wanted)})",
    )


def check_header(shape: Sequence[int], dtype: np.dtype[Any], tensor: TensorFacts, where: str) -> None:
    """Raise ``DataError`` unless one item of this dtype and shape, leading axis of one included, fits the input."""
    import numpy as np

    wanted = target_dtype(tensor)
    between_integers = dtype.kind in "iu" and wanted.kind in "iu"  # each value is checked when it is loaded
    if not between_integers and not np.can_cast(dtype, wanted, "same_kind"):
        raise DataError(
            f"input {tensor.name!r} wants {tensor.dtype}, the data is {dtype}: converting would lose values",
            where=where,
            hint=f"save the array as {tensor.dtype}",
        )
    fits = len(shape) == len(tensor.shape) and all(
        want in (None, got) for want, got in zip(tensor.shape[1:], shape[1:], strict=True)
    )
    if not fits or 0 in shape or shape[:1] not in ((), (1,)):
        raise DataError(
            f"input {tensor.name!r} wants shape {show(tensor.shape)}, one item of the data is {show(shape)}",
            where=where,
            hint="check the order of the axes (NCHW or NHWC); axis 0 of a stack counts items",
        )


def fit_item(arrays: Mapping[str, Array], inputs: Sequence[TensorFacts], where: str) -> dict[str, Array]:
    """Check one item and convert it to the inputs' dtypes.

    Args:
        arrays: by input name; an array may lack its leading batch axis.
        inputs: of the model.
        where: file and row, for the error.

    Returns:
        Contiguous arrays in the order of ``inputs``, each with a leading axis of one.

    Raises:
        DataError: a name, dtype or shape is wrong, a value is NaN or infinite or does not fit the dtype.
    """
    check_names(arrays, inputs, where)
    return {tensor.name: _fit_array(arrays[tensor.name], tensor, where) for tensor in inputs}


def target_dtype(tensor: TensorFacts) -> np.dtype[Any]:
    """The numpy dtype that an input is fed with."""
    dtype = _numpy_dtype(tensor.dtype)
    if dtype is None or dtype.kind not in "biuf":  # ml_dtypes, once imported, gives bfloat16 a dtype of kind V
        raise DataError(
            f"input {tensor.name!r} has dtype {tensor.dtype}, which numpy cannot hold",
            hint="give the model inputs of float32",
        )
    return dtype


@cache
def _numpy_dtype(name: str) -> np.dtype[Any] | None:
    import numpy as np

    with contextlib.suppress(TypeError):
        return np.dtype(name)
    return None


def show(shape: Sequence[int | None]) -> str:
    """A shape as people write it: ``?x3x480x480``."""
    return "x".join("?" if dim is None else str(dim) for dim in shape) or "()"


def _fit_array(array: Array, tensor: TensorFacts, where: str) -> Array:
    import numpy as np

    if array.ndim == len(tensor.shape) - 1:
        array = array[np.newaxis]
    check_header(array.shape, array.dtype, tensor, where)
    dtype = target_dtype(tensor)
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = np.asarray(array, dtype=dtype, order="C")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = "NaN" if np.isnan(array).any() else "an infinite value"
        raise DataError(f"the data for input {tensor.name!r} holds {bad}", where=where, hint="mend or remove the item")
    if dtype == array.dtype:
        return fitted
    lossless = np.isfinite(fitted).all() if dtype.kind == "f" else (fitted == array).all()
    if not lossless:
        raise DataError(
            f"the data for input {tensor.name!r} holds values that {dtype} cannot hold",
            where=where,
            hint="scale the values or mend the item",
        )
    return fitted
