"""What every backend offers. One file per backend implements it; :mod:`trtd.engines.table` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trtd.model.facts import TensorFacts

if TYPE_CHECKING:  # whoever only names backends need not load numpy
    import numpy as np

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class Runner(Protocol):
    """A loaded model that turns named input arrays into named output arrays."""

    @property
    def inputs(self) -> tuple[TensorFacts, ...]: ...

    @property
    def outputs(self) -> tuple[TensorFacts, ...]: ...

    def run(self, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ``EngineError`` naming the input if a name, dtype or shape does not fit."""
        ...

    def close(self) -> None: ...
