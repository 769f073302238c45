"""Bounds that hold whatever is fed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from tests.quantize.graphs import Net, noise, run
from trtd.quantize.bounds import lowest

KNOWN: dict[str, tuple[Callable[[Net], str], float]] = {
    "relu": (lambda net: net.node("Relu", ["x"], "y"), 0.0),
    "clip": (lambda net: net.node("Clip", ["x", net.real("l", -1.5), net.real("h", 6)], "y"), -1.5),
    "hard swish": (lambda net: net.hard_swish("x", "y"), -0.375),
    "the gate first": (
        lambda net: net.node("Mul", [net.node("HardSigmoid", ["x"], "g", alpha=0.2, beta=0.5), "x"], "y"),
        -0.3125,
    ),
    "scaled and shifted": (
        lambda net: net.scalar("Add", net.scalar("Mul", net.hard_swish("x", "s"), "m", 2.0), "y", -0.25),
        -1.0,
    ),
    "a sum": (
        lambda net: net.node("Add", [net.node("Relu", ["x"], "r"), net.hard_swish("x", "s")], "y"),
        -0.375,
    ),
    "a mean": (lambda net: net.node("GlobalAveragePool", [net.node("Sigmoid", ["x"], "s")], "y"), 0.0),
}
UNKNOWN: dict[str, Callable[[Net], str]] = {
    "a convolution": lambda net: net.conv("x", "y", (3, 3)),
    "a negative factor": lambda net: net.scalar("Mul", net.node("Relu", ["x"], "r"), "y", -1.0),
    "a factor for each channel": lambda net: net.scalar(
        "Mul", net.node("Relu", ["x"], "r"), "y", [[[1]], [[-1]], [[1]]]
    ),
    "a sum with an input": lambda net: net.node("Add", [net.node("Relu", ["x"], "r"), "x"], "y"),
    "an input": lambda net: net.node("Reshape", ["x", net.const("s", np.array([1, -1]))], "y"),
    "another's gate": lambda net: net.node(
        "Mul", [net.node("HardSigmoid", [net.node("Relu", ["x"], "r")], "g"), "x"], "y"
    ),
}


def _last(net: Net) -> ir.Value:
    model = ir.from_proto(net.model("y"))
    return model.graph.outputs[0]


@pytest.mark.parametrize("name", KNOWN)
def test_no_value_lies_below_its_bound_and_some_come_close(name: str) -> None:
    """A bound that is too high clips; one that is too low wastes steps."""
    make, bound = KNOWN[name]
    net = Net({"x": [1, 3, 12, 12]})
    make(net)
    found = lowest(_last(net))
    assert found is not None
    assert found == pytest.approx(bound)
    values = np.concatenate([run(net.model("y"), feeds)["y"].ravel() for feeds in noise(net.model("y"), 8, spread=3.0)])
    assert values.min() >= bound - 1e-6
    assert name == "a mean" or values.min() <= bound + 0.05


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_nothing_is_known_nothing_is_said(name: str) -> None:
    """Then the range is symmetric, as Paddle's is."""
    net = Net({"x": [1, 3, 12, 12]})
    UNKNOWN[name](net)
    assert lowest(_last(net)) is None
