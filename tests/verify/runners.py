"""Stand-ins for engines: what a runner must do, with outputs and a diary that tests choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trtd.errors import EngineError
from trtd.model.facts import TensorFacts

Array = np.ndarray[Any, Any]


class StandInRunner:
    """Computes its outputs with a Python function and writes its name into a diary at every run."""

    def __init__(
        self,
        compute: Callable[[Mapping[str, Array]], dict[str, Array]],
        outputs: tuple[str, ...] = ("y",),
        name: str = "",
        diary: list[tuple[str, Any]] | None = None,
    ) -> None:
        self._compute = compute
        self._outputs = outputs
        self._name = name
        self._diary = [] if diary is None else diary

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return ()

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return tuple(TensorFacts(name=name, dtype="float32", shape=()) for name in self._outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._diary.append((self._name, next(iter(feeds.values())).flat[0]))
        return self._compute(feeds)

    def close(self) -> None:
        raise EngineError("who opens an engine closes it; verification does not")


def adding(number: float, outputs: tuple[str, ...] = ("y",)) -> StandInRunner:
    """Gives x + number under every output's name."""
    return StandInRunner(lambda feeds: {name: feeds["x"] + np.float32(number) for name in outputs}, outputs)
