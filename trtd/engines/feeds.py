"""Checks on named input arrays that every runner makes before a backend sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from trtd.errors import EngineError
from trtd.model.facts import TensorFacts


def check_feeds(inputs: Sequence[TensorFacts], feeds: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raise ``EngineError`` unless ``feeds`` has exactly the named inputs, with fitting dtypes and shapes."""
    known = [i.name for i in inputs]
    for name in feeds:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the inputs are {', '.join(known)}"
            raise EngineError(f"there is no input {name!r}", hint=hint, where=name)
    for tensor in inputs:
        array = feeds.get(tensor.name)
        if array is None:
            raise EngineError(f"input {tensor.name!r} is missing", hint=f"pass {describe(tensor)}", where=tensor.name)
        if not isinstance(array, np.ndarray):
            raise EngineError(
                f"input {tensor.name!r} is a {type(array).__name__}, not a numpy array",
                hint=f"pass {describe(tensor)}",
                where=tensor.name,
            )
        fits = array.ndim == len(tensor.shape) and all(
            want in (None, have) for want, have in zip(tensor.shape, array.shape, strict=True)
        )
        if str(array.dtype) != tensor.dtype or not fits:
            raise EngineError(
                f"input {tensor.name!r} is {array.dtype} of shape {list(array.shape)}, not {describe(tensor)}",
                hint="convert it with numpy: array.astype(...), array.reshape(...)",
                where=tensor.name,
            )


def describe(tensor: TensorFacts) -> str:
    """``float32 [?, 3, 480, 480]``."""
    return f"{tensor.dtype} [{', '.join('?' if d is None else str(d) for d in tensor.shape)}]"
