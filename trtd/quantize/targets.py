"""Which placement each target wants. Numbers: ``docs/explanation/placement.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from trtd.errors import QuantizationError
from trtd.quantize.placement import Placement

Activation = Literal["auto", "uint8", "int8"]


def onnxruntime_cpu(*, vnni: bool, activation: Activation = "auto") -> Placement:
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


def tensorrt(*, convolutions: bool, float16_scales: bool) -> Placement:
    """TensorRT and TensorRT-RTX, which read Q/DQ as explicit quantization.

    Symmetric int8 with zero point 0, weights per output channel, biases in float; the inputs of weighted operators and
    the other summand of an Add behind one are rounded, their outputs are not; pooling that averages between two
    rounded tensors runs in 8 bits. What only moves values needs nothing: the optimizer carries Q and DQ past it.
    Source: NVIDIA TensorRT documentation, "Working with Quantized Types", Q/DQ placement recommendations.

    Args:
        convolutions: whether this version runs convolutions in 8 bits; TensorRT-RTX before 1.7 does not.
        float16_scales: TensorRT-RTX fuses Q and DQ with casts around them, and 1.6.1 computes NaN with scales in FP16
            (measured: ``benchmarks/results/h200.md``).
    """
    dense, images = {"MatMul", "Gemm"}, {"Conv", "ConvTranspose"}
    return Placement(
        weighted=frozenset(dense | images if convolutions else dense),
        joins=frozenset({"AveragePool"} if convolutions else ()),
        gates=frozenset(),
        views=frozenset(),
        fused=frozenset({"Relu", "Clip"}),
        activation="int8",
        weight_bits=8,
        output_needed=frozenset(),
        min_channels=1,
        adding=frozenset({"Conv"} if convolutions else ()),
        rounded_bias=False,
        overlapping=True,
        float16_scales=float16_scales,
    )


# By target; the second argument is the device's fingerprint, as its backend gives it.
_PLACEMENTS: dict[str, Callable[[Activation, Mapping[str, str]], Placement]] = {
    "onnxruntime-cpu": lambda activation, device: onnxruntime_cpu(vnni=device["vnni"] == "yes", activation=activation),
    "tensorrt": lambda activation, device: tensorrt(convolutions=True, float16_scales=True),
    "tensorrt-rtx": lambda activation, device: tensorrt(
        convolutions=device["int8_convolution"] == "yes", float16_scales=False
    ),
}


def placement_for(target: str, activation: Activation, device: Mapping[str, str]) -> Placement:
    """The placement of ``target``. Raises ``QuantizationError`` for a target without one.

    Args:
        device: the target's fingerprint.
    """
    if target not in _PLACEMENTS:
        hint = f"INT8 is for {', '.join(_PLACEMENTS)}"
        raise QuantizationError(f"there is no INT8 placement for target {target!r}", hint=hint)
    return _PLACEMENTS[target](activation, device)
