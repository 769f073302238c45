"""Random graphs over images of one size, of the operators that the placement knows and of some that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st

from tests.quantize.graphs import Net

CHANNELS = 8
MANY = (CHANNELS, CHANNELS)


def _clip(low: float) -> Callable[[Net, str, str, str], str]:
    return lambda net, x, y, name: net.node("Clip", [x, net.real(f"{name}_l", low), net.real(f"{name}_h", 1.0)], name)


def _pool(op: str) -> Callable[[Net, str, str, str], str]:
    return lambda net, x, y, name: net.node(op, [x], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def _resize(mode: str) -> Callable[[Net, str, str, str], str]:
    def step(net: Net, x: str, y: str, name: str) -> str:
        scales = net.const(f"{name}_k", np.array([1, 1, 2, 2], np.float32))
        large = net.node("Resize", [x, "", scales], f"{name}_large", mode=mode)
        return net.node("MaxPool", [large], name, kernel_shape=[2, 2], strides=[2, 2])

    return step


def _transposed(net: Net, x: str, y: str, name: str) -> str:
    weight = net.real(f"{name}_w", net.random.standard_normal((CHANNELS, CHANNELS, 2, 2)) / np.sqrt(CHANNELS))
    large = net.node("ConvTranspose", [x, weight], f"{name}_large", strides=[2, 2])
    return net.node("MaxPool", [large], name, kernel_shape=[2, 2], strides=[2, 2])


def _squeeze_excite(net: Net, x: str, y: str, name: str) -> str:
    pooled = net.node("GlobalAveragePool", [x], f"{name}_p")
    gate = net.node("HardSigmoid", [net.conv(pooled, f"{name}_c", MANY, kernel=1)], f"{name}_g")
    return net.node("Mul", [x, gate], name)


def _concat(net: Net, x: str, y: str, name: str) -> str:
    joined = net.node("Concat", [x, y], f"{name}_j", axis=1)
    return net.conv(joined, name, (2 * CHANNELS, CHANNELS), kernel=1)


def _reshape(net: Net, x: str, y: str, name: str) -> str:
    flat = net.node("Reshape", [x, net.const(f"{name}_f", np.array([1, CHANNELS, 64]))], f"{name}_flat")
    return net.node("Reshape", [flat, net.const(f"{name}_s", np.array([1, CHANNELS, 8, 8]))], name)


def _depth_to_space(net: Net, x: str, y: str, name: str) -> str:
    wide = net.node("DepthToSpace", [x], f"{name}_wide", blocksize=2)
    return net.conv(wide, name, (2, CHANNELS), kernel=2, strides=[2, 2], pads=[0, 0, 0, 0])


# From one or two values of 1 x CHANNELS x 8 x 8 to another one.
WELL_BEHAVED: dict[str, Callable[[Net, str, str, str], str]] = {
    "conv": lambda net, x, y, name: net.conv(x, name, MANY),
    "pointwise": lambda net, x, y, name: net.conv(x, name, MANY, kernel=1, bias=False),
    "depthwise": lambda net, x, y, name: net.conv(x, name, MANY, groups=CHANNELS),
    "relu": lambda net, x, y, name: net.node("Relu", [x], name),
    "add": lambda net, x, y, name: net.node("Add", [x, y], name),
    "concat": _concat,
    "max_pool": _pool("MaxPool"),
    "average_pool": _pool("AveragePool"),
    "transpose": lambda net, x, y, name: net.node("Transpose", [x], name, perm=[0, 1, 3, 2]),
    "reshape": _reshape,
    "resize": _resize("nearest"),
    "transposed": _transposed,
    "depth_to_space": _depth_to_space,
}
EVERYTHING = WELL_BEHAVED | {
    "clip": _clip(0.0),
    "clip_below": _clip(-0.7),
    "hard_swish": lambda net, x, y, name: net.hard_swish(x, name),
    "gate": lambda net, x, y, name: net.node("HardSigmoid", [x], name),
    "squeeze_excite": _squeeze_excite,
    "mul": lambda net, x, y, name: net.node("Mul", [x, y], name),
    "scalar_mul": lambda net, x, y, name: net.scalar("Mul", x, name, [0.7]),
    "scalar_add": lambda net, x, y, name: net.scalar("Add", x, name, [0.3]),
    "sigmoid": lambda net, x, y, name: net.node("Sigmoid", [x], name),
    "resize_linear": _resize("linear"),
}


@dataclass(frozen=True)
class Recipe:
    """A graph of one input, x, with at least one convolution and one or two outputs.

    Attributes:
        steps: kind of each step, and how far back in the list of values its two inputs are.
        second: which value is the other output.
    """

    seed: int
    steps: tuple[tuple[str, int, int], ...]
    second: int

    def model(self) -> onnx.ModelProto:
        net = Net({"x": [1, CHANNELS, 8, 8]}, seed=self.seed)
        values = ["x"]
        for i, (kind, one, other) in enumerate(self.steps):
            x, y = (values[-min(back, len(values))] for back in (one, other))
            values.append(EVERYTHING[kind](net, x, y, f"{kind}_{i}"))
        values.append(net.conv(values[-1], "last", MANY, kernel=1))
        return net.model(*dict.fromkeys(["last", values[1 + self.second % (len(values) - 1)]]))


def recipes(kinds: Iterable[str] = EVERYTHING, most: int = 7) -> st.SearchStrategy[Recipe]:
    back = st.integers(1, 3)
    steps = st.lists(st.tuples(st.sampled_from(sorted(kinds)), back, back), min_size=1, max_size=most)
    return st.builds(Recipe, st.integers(0, 9), steps.map(tuple), st.integers(0, most))
