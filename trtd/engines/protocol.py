"""What every backend offers. One file per backend implements it; :mod:`trtd.engines.table` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from trtd.model.facts import TensorFacts

Arrays = Mapping[str, np.ndarray]


class Runner(Protocol):
    """A loaded model that turns named input arrays into named output arrays."""

    @property
    def inputs(self) -> tuple[TensorFacts, ...]: ...

    @property
    def outputs(self) -> tuple[TensorFacts, ...]: ...

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """Run once. Raises ``EngineError`` naming the input if a name, dtype or shape does not fit."""
        ...

    def close(self) -> None: ...
