"""Which placement each target wants. Numbers: ``docs/explanation/placement.md``."""

from __future__ import annotations

from typing import Literal

from trtd.errors import QuantizationError
from trtd.quantize.placement import Placement


def onnxruntime_cpu(*, vnni: bool, activation: Literal["auto", "uint8", "int8"] = "auto") -> Placement:
    """ONNX Runtime on x86-64 and Arm CPUs.

    Its integer kernels take uint8 activations and int8 weights directly; int8 activations go through a slower path.
    Without VNNI, AVX2 and AVX-512 add products of pairs in saturating int16, so weights are kept to 7 bits there
    (ONNX Runtime documentation, "Quantize ONNX models", section on ``reduce_range``).
    """
    return Placement(
        weighted=frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"}),
        joins=frozenset({"Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool"}),
        gates=frozenset({"HardSigmoid"}) if activation != "int8" else frozenset(),
        views=frozenset(
            {"MaxPool", "Resize", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace"}
        ),
        # Rounding to uint8 with zero point 0 clips at 0 by itself; to int8 it does not, so both would stay float.
        fused=frozenset({"Relu", "Clip"}) if activation != "int8" else frozenset(),
        activation="uint8" if activation == "auto" else activation,
        weight_bits=8 if vnni else 7,
        output_needed=frozenset({"Conv", "ConvTranspose"}),
        min_channels=4,
        channels_last=True,
    )


def placement_for(target: str, activation: Literal["auto", "uint8", "int8"], *, vnni: bool) -> Placement:
    """The placement of ``target``. Raises ``QuantizationError`` for a target without one."""
    if target == "onnxruntime-cpu":
        return onnxruntime_cpu(vnni=vnni, activation=activation)
    raise QuantizationError(f"there is no INT8 placement for target {target!r}", hint='use target = "onnxruntime-cpu"')
