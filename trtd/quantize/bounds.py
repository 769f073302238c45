"""What the operators themselves say of the values that a tensor can hold."""

from __future__ import annotations

import onnx_ir as ir

from trtd.quantize.affine import scalar_step
from trtd.quantize.graph import constant


def lowest(value: ir.Value | None) -> float | None:
    """The smallest number that ``value`` can hold, whatever is fed; ``None`` if that is not known."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    match node.op_type:
        case "Relu" | "Sigmoid" | "HardSigmoid" | "Softmax":
            return 0.0
        case "Clip":
            bound = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            return None if bound is None else float(bound)
        case "GlobalAveragePool" | "AveragePool" | "MaxPool" | "Identity" | "Reshape" | "Transpose":
            return lowest(node.inputs[0])
        case "Mul" | "Add" if (step := scalar_step(node)) is not None:
            low = lowest(step[0])
            return None if low is None else low * step[1] if node.op_type == "Mul" else low + step[1]
        case "Add":
            first = lowest(node.inputs[0])
            second = None if first is None else lowest(node.inputs[1])
            return None if first is None or second is None else first + second
        case "Mul":
            return _lowest_of_gated(node)
    return None


def _lowest_of_gated(node: ir.Node) -> float | None:
    """Of ``x clip(a x + b, 0, 1)``, as hard-swish is: it is smallest at ``x = -b / 2a``."""
    for gate, x in (node.inputs, node.inputs[::-1]):
        maker = None if gate is None else gate.producer()
        if maker is not None and maker.op_type == "HardSigmoid" and maker.inputs[0] is x:
            alpha, beta = (maker.attributes.get_float(n, d) for n, d in (("alpha", 0.2), ("beta", 0.5)))
            return -(beta**2) / (4 * alpha) if alpha > 0 and 0 <= beta <= 2 else None
    return None
