"""What each target's placement promises."""

from __future__ import annotations

import pytest

from trtd.errors import QuantizationError
from trtd.quantize.targets import placement_for

VNNI = {"vnni": "yes"}


def test_auto_means_what_is_fastest_here() -> None:
    """onnxruntime's CPU kernels want uint8 activations; int8 ones run in float in places."""
    assert placement_for("onnxruntime-cpu", "auto", VNNI) == placement_for("onnxruntime-cpu", "uint8", VNNI)
    assert placement_for("onnxruntime-cpu", "auto", VNNI).activation == "uint8"


def test_machines_without_vnni_get_7_bit_weights() -> None:
    """Two products of 8 x 8 bits overflow int16 there, silently."""
    assert placement_for("onnxruntime-cpu", "auto", {"vnni": "no"}).weight_bits == 7
    assert placement_for("onnxruntime-cpu", "auto", VNNI).weight_bits == 8


def test_symmetric_activations_fuse_and_gate_nothing() -> None:
    """Without a zero point rounding clips neither at 0 (ReLU) nor to 0..1 (HardSigmoid)."""
    placement = placement_for("onnxruntime-cpu", "int8", VNNI)
    assert not placement.fused
    assert not placement.gates


def test_unknown_targets_are_refused_by_name() -> None:
    """A misspelt target must not get some default placement."""
    with pytest.raises(QuantizationError, match="'tpu'"):
        placement_for("tpu", "auto", VNNI)


def test_tensorrt_is_symmetric_with_float_biases() -> None:
    """Its parser refuses zero points, and a quantized bias (then: "Network must have at least one output")."""
    placement = placement_for("tensorrt", "auto", {})
    assert (placement.activation, placement.weight_bits, placement.rounded_bias) == ("int8", 8, False)
    assert placement == placement_for("tensorrt-rtx", "auto", {"int8_convolution": "yes"})


def test_tensorrt_rtx_convolves_in_8_bits_from_1_7_on() -> None:
    """Older builders stop at an INT8 convolution; what they can do in INT8 must still be done."""
    old = placement_for("tensorrt-rtx", "auto", {"int8_convolution": "no"})
    assert old.weighted == {"MatMul", "Gemm"}
    assert not old.adding
