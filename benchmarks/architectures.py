"""Networks of well-known shape with random weights, as ONNX: what they compute is worthless, how long it takes is not.

Weights are seeded and scaled so that activations keep their size through the depth (He et al. 2015, "Delving Deep into
Rectifiers"); BatchNorm is folded, as it is in any exported model. Where PyTorch or Paddle would be needed to export the
real thing, a machine with a GPU may have neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
RESNET50_BLOCKS = ((3, 64), (4, 128), (6, 256), (3, 512))


class Builder:
    """Collects nodes and weights of one graph."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int, scale: float) -> str:
        self.weights.append(numpy_helper.from_array((self.random.standard_normal(shape) * scale).astype("f4"), name))
        return name

    def constant(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def conv(self, x: str, name: str, cin: int, cout: int, kernel: int, stride: int = 1, gain: float = 1.0) -> str:
        weight = self.weight(f"{name}.w", cout, cin, kernel, kernel, scale=gain * np.sqrt(2 / (cin * kernel**2)))
        bias = self.weight(f"{name}.b", cout, scale=0.01)
        padding = [kernel // 2] * 4
        return self.add("Conv", [x, weight, bias], name, strides=[stride] * 2, pads=padding, kernel_shape=[kernel] * 2)

    def dense(self, x: str, name: str, cin: int, cout: int, gain: float = 1.0) -> str:
        product = self.add("MatMul", [x, self.weight(f"{name}.w", cin, cout, scale=gain / np.sqrt(cin))], name)
        return self.add("Add", [product, self.weight(f"{name}.b", cout, scale=0.01)], f"{name}.bias")

    def save(self, path: Path, shape: list[str | int], output: str, out_shape: list[str | int]) -> None:
        self.nodes.append(helper.make_node("Identity", [output], ["y"], "y"))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
            self.weights,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8), path)


def resnet50(path: Path) -> None:
    """ResNet-50 (He et al. 2016), x [N, 3, 224, 224] to logits [N, 1000]."""
    b = Builder(seed=50)
    x = b.add("Relu", [b.conv("x", "stem", 3, 64, 7, 2)], "stem.relu")
    x = b.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (count, width) in enumerate(RESNET50_BLOCKS):
        for block in range(count):
            name, stride = f"s{stage}.b{block}", 2 if stage and not block else 1
            y = b.add("Relu", [b.conv(x, f"{name}.c1", channels, width, 1)], f"{name}.r1")
            y = b.add("Relu", [b.conv(y, f"{name}.c2", width, width, 3, stride)], f"{name}.r2")
            y = b.conv(y, f"{name}.c3", width, 4 * width, 1, gain=0.3)
            shortcut = x if block else b.conv(x, f"{name}.down", channels, 4 * width, 1, stride, gain=0.7)
            x = b.add("Relu", [b.add("Add", [y, shortcut], f"{name}.add")], f"{name}.relu")
            channels = 4 * width
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], "mean")], "flat")
    weight, bias = b.weight("fc.w", channels, 1000, scale=0.05), b.weight("fc.b", 1000, scale=0.01)
    b.save(path, ["N", 3, 224, 224], b.add("Gemm", [x, weight, bias], "fc"), ["N", 1000])


def encoder(path: Path, *, layers: int = 6, width: int = 768, heads: int = 12, tokens: int = 128) -> None:
    """A transformer encoder of BERT-base's shape (Devlin et al. 2019): [N, tokens, width] to the same; gelu by erf."""
    b = Builder(seed=12)
    x, head = "x", width // heads
    split, joined = b.constant("split", [0, tokens, heads, head]), b.constant("joined", [0, tokens, width])
    root, half, one = (b.constant(n, np.float32(v)) for n, v in (("root", 2**0.5), ("half", 0.5), ("one", 1.0)))
    scale = b.constant("scale", np.float32(head**-0.5))
    for i in range(layers):
        parts = {}
        for part in "qkv":
            made = b.add("Reshape", [b.dense(x, f"l{i}.{part}", width, width), split], f"l{i}.{part}.split")
            order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
            parts[part] = b.add("Transpose", [made], f"l{i}.{part}.heads", perm=order)
        scores = b.add("Mul", [b.add("MatMul", [parts["q"], parts["k"]], f"l{i}.scores"), scale], f"l{i}.scaled")
        mixed = b.add("MatMul", [b.add("Softmax", [scores], f"l{i}.soft", axis=-1), parts["v"]], f"l{i}.mix")
        mixed = b.add("Transpose", [mixed], f"l{i}.back", perm=[0, 2, 1, 3])
        mixed = b.dense(b.add("Reshape", [mixed, joined], f"l{i}.join"), f"l{i}.o", width, width)
        x = _norm(b, b.add("Add", [x, mixed], f"l{i}.res1"), f"l{i}.norm1", width)
        wide = b.dense(x, f"l{i}.up", width, 4 * width)
        erf = b.add("Add", [b.add("Erf", [b.add("Div", [wide, root], f"l{i}.div")], f"l{i}.erf"), one], f"l{i}.plus")
        gelu = b.add("Mul", [b.add("Mul", [wide, erf], f"l{i}.mul"), half], f"l{i}.gelu")
        x = _norm(
            b, b.add("Add", [x, b.dense(gelu, f"l{i}.down", 4 * width, width)], f"l{i}.res2"), f"l{i}.norm2", width
        )
    b.save(path, ["N", tokens, width], x, ["N", tokens, width])


def _norm(b: Builder, x: str, name: str, width: int) -> str:
    ones, zeros = b.constant(f"{name}.g", np.ones(width, "f4")), b.constant(f"{name}.z", np.zeros(width, "f4"))
    return b.add("LayerNormalization", [x, ones, zeros], name, axis=-1)
