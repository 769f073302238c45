"""8-bit upsampling as copies of whole rows of pixels, for targets that keep 8-bit data channels-last.

Enlarging an image that lies in memory as height, width, channels needs no arithmetic: each pixel's channels are written
several times in a row, then each row several times. ``Concat`` does that at the speed of ``memcpy``; ONNX Runtime's
nearest ``Resize`` computes an address for every byte (version 1.32), and its ``ConvTranspose`` has no 8-bit kernel.

A transposed convolution whose kernel is as large as its stride is likewise a 1x1 convolution for each row of the
kernel, its columns side by side among the output channels; the results interleave by ``Concat`` (Shi et al. 2016,
"Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from trtd.quantize.graph import add_constant, constant, remove_dead, sole_consumer

CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
COLUMN_AXIS, CHANNEL_AXIS = 2, 3  # of channels-last data


def stride_of_patches(node: ir.Node) -> tuple[int, int] | None:
    """Height and width that each input pixel of a ConvTranspose becomes, if no two of them overlap; else ``None``."""
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 4:
        return None
    kernel, attributes = tuple(weight.shape[2:]), node.attributes
    plain = (
        attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and not any(attributes.get_ints("pads", [0]))
        and not any(attributes.get_ints("output_padding", [0]))
        and not attributes.get_ints("output_shape", [])
        and tuple(attributes.get_ints("strides", [1, 1])) == kernel
        and all(d == 1 for d in attributes.get_ints("dilations", [1]))
    )
    return (int(kernel[0]), int(kernel[1])) if plain else None


def copy_rows(graph: ir.Graph) -> int:
    """Rewrite 8-bit upsampling in a graph that has its Q/DQ already; returns how many nodes were rewritten.

    Bit-exact for ``Resize``; what is not nearest by a whole factor, or not between equal scales, stays as it is.
    """
    rewritten = 0
    for node in list(graph):
        if node.op_type == "Resize":
            rewritten += _copy_instead_of_resize(graph, node)
        elif node.op_type == "ConvTranspose":
            rewritten += _convolve_instead_of_transposed(graph, node)
    remove_dead(graph)
    return rewritten


def whole_factors(node: ir.Node) -> tuple[int, int] | None:
    """Height and width that each pixel becomes in a Resize that only repeats pixels; else ``None``."""
    scales = constant(node.inputs[2]) if len(node.inputs) == 3 else None
    if scales is None or scales.shape != (4,) or tuple(scales[:2]) != (1, 1):
        return None
    how = tuple(
        node.attributes.get_string(key, default)
        for key, default in (
            ("mode", "nearest"),
            ("coordinate_transformation_mode", "half_pixel"),
            ("nearest_mode", "round_prefer_floor"),
        )
    )
    repeats = how in (("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"))
    factors = int(scales[2]), int(scales[3])
    whole = min(factors) >= 1 and tuple(scales[2:]) == factors
    return factors if repeats and whole and not node.attributes.get_ints("axes", []) else None


def _copy_instead_of_resize(graph: ir.Graph, node: ir.Node) -> bool:
    factors, dequantize = whole_factors(node), _producer(node.inputs[0], "DequantizeLinear")
    quantize = _follower(node.outputs[0], "QuantizeLinear")
    if factors is None or dequantize is None or quantize is None or not _same_scale(dequantize, quantize):
        return False
    writer = _Writer(graph, node, node.name or node.outputs[0].name or "resize")
    small = writer.add("Transpose", [dequantize.inputs[0]], perm=CHANNELS_LAST)
    wide = writer.add("Concat", [small] * factors[1], axis=CHANNEL_AXIS)
    tall = writer.add("Concat", [wide] * factors[0], axis=COLUMN_AXIS)
    large = writer.reshape_like(tall, small, (1, *factors, 1))
    _replace(quantize, writer.add("Transpose", [large], perm=CHANNELS_FIRST))
    return True


def _convolve_instead_of_transposed(graph: ir.Graph, node: ir.Node) -> bool:
    weights = _producer(node.inputs[1], "DequantizeLinear")
    bias = _producer(node.inputs[2], "DequantizeLinear") if len(node.inputs) > 2 else None
    clip = _follower(node.outputs[0], "Relu") or _follower(node.outputs[0], "Clip")
    quantize = _follower((clip or node).outputs[0], "QuantizeLinear")
    if weights is None or quantize is None or _producer(node.inputs[0], "DequantizeLinear") is None:
        return False
    kernel = constant(weights.inputs[0])  # input channels, output channels, rows, columns
    scales = constant(weights.inputs[1])
    if kernel is None or scales is None:
        return False
    rows, columns = kernel.shape[2:]
    writer = _Writer(graph, node, node.name or node.outputs[0].name or "upsample")
    made = []
    for row in range(rows):
        part = kernel[:, :, row, :].transpose(2, 1, 0).reshape(-1, kernel.shape[0], 1, 1)
        inputs = [node.inputs[0], writer.constant_dq(f"row{row}.weight", part, np.tile(scales, columns))]
        if bias is not None:
            values, steps = constant(bias.inputs[0]), constant(bias.inputs[1])
            assert values is not None
            assert steps is not None
            inputs.append(writer.constant_dq(f"row{row}.bias", np.tile(values, columns), np.tile(steps, columns)))
        value = writer.add("Conv", inputs, kernel_shape=[1, 1])
        if clip is not None:
            value = writer.add(clip.op_type, [value, *clip.inputs[1:]])
        value = writer.add("QuantizeLinear", [value, *quantize.inputs[1:]])
        made.append(writer.add("Transpose", [value], perm=CHANNELS_LAST))
    small = writer.add("Transpose", [_dequantized_from(node)], perm=CHANNELS_LAST)
    tall = writer.add("Concat", made, axis=COLUMN_AXIS)
    large = writer.reshape_like(tall, small, (1, rows, columns, 0), channels=kernel.shape[1])
    _replace(quantize, writer.add("Transpose", [large], perm=CHANNELS_FIRST))
    return True


class _Writer:
    """Adds nodes in front of ``anchor``, named after it."""

    def __init__(self, graph: ir.Graph, anchor: ir.Node, stem: str) -> None:
        self.graph, self.anchor, self.stem, self.count = graph, anchor, stem, 0

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        self.count += 1
        node = ir.node(op_type, inputs, attributes, name=f"{self.stem}.{op_type}.{self.count}")
        node.outputs[0].name = f"{node.name}.output"
        self.graph.insert_before(self.anchor, node)
        return node.outputs[0]

    def reshape_like(
        self, value: ir.Value, small: ir.Value, factors: tuple[int, ...], channels: int | None = None
    ) -> ir.Value:
        """``value`` in the shape of ``small`` times ``factors``; a new number of ``channels`` if given."""
        shape = self.add("Shape", [small])
        shape = self.add("Mul", [shape, self._integers("factors", factors)])
        if channels is not None:
            shape = self.add("Add", [shape, self._integers("channels", (0, 0, 0, channels))])
        return self.add("Reshape", [value, shape])

    def constant_dq(self, name: str, array: np.ndarray[Any, Any], scales: np.ndarray[Any, Any]) -> ir.Value:
        stem = f"{self.stem}.{name}"
        inputs: list[ir.Value | None] = [
            add_constant(self.graph, f"{stem}.quantized", np.ascontiguousarray(array)),
            add_constant(self.graph, f"{stem}.scale", scales),
            add_constant(self.graph, f"{stem}.zero_point", np.zeros(scales.shape, array.dtype)),
        ]
        return self.add("DequantizeLinear", inputs, axis=0)

    def _integers(self, name: str, values: tuple[int, ...]) -> ir.Value:
        return add_constant(self.graph, f"{self.stem}.{name}", np.array(values, np.int64))


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _follower(value: ir.Value, op_type: str) -> ir.Node | None:
    node = sole_consumer(value)
    return node if node is not None and node.op_type == op_type else None


def _dequantized_from(node: ir.Node) -> ir.Value | None:
    dequantize = _producer(node.inputs[0], "DequantizeLinear")
    assert dequantize is not None
    return dequantize.inputs[0]


def _same_scale(one: ir.Node, other: ir.Node) -> bool:
    pairs = [(constant(a), constant(b)) for a, b in zip(one.inputs[1:3], other.inputs[1:3], strict=True)]
    return all(a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def _replace(quantize: ir.Node, heir: ir.Value) -> None:
    heir.type = quantize.outputs[0].type
    quantize.outputs[0].replace_all_uses_with(heir)
