"""Histograms of the kinds that activations have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trtd.calibrate.histogram import Histogram
from trtd.calibrate.observe import RangeObserver

Observe = Callable[[Any], Histogram]


def observed(values: Any) -> Histogram:
    observer = RangeObserver("tensor")
    observer.update(np.asarray(values, dtype=np.float32))
    return observer.histogram()


@pytest.fixture(scope="session")
def observe_values() -> Observe:
    """Turns values into the histogram that a pass over them would leave."""
    return observed


def _activations() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(5)
    bell = random.standard_normal(60_000)
    return {
        "bell": bell,
        "relu": np.maximum(bell, 0),
        "hard_swish": 3 * bell * np.clip(3 * bell + 3, 0, 6) / 6,
        "sigmoid": 1 / (1 + np.exp(-3 * bell)),
        "long_tail": random.standard_t(2.2, 60_000),
        "outlier": np.append(bell, 500.0),
        "negative": -np.abs(bell),
        "sparse": np.where(random.random(60_000) < 1e-3, bell, 0),
        "constant": np.full(100, 2.5),
        "two_values": np.where(bell > 0, 1.0, -3.0),
    }


ACTIVATIONS = _activations()


@pytest.fixture(params=list(ACTIVATIONS))
def values(request: pytest.FixtureRequest) -> np.ndarray[Any, Any]:
    """Values of one kind after the other, each as real tensors have them."""
    return ACTIVATIONS[request.param].astype(np.float32)


@pytest.fixture
def activation(values: np.ndarray[Any, Any]) -> Histogram:
    """The histogram of ``values``."""
    return observed(values)
