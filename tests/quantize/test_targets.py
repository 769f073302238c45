"""What each target's placement promises."""

from __future__ import annotations

import pytest

from trtd.errors import QuantizationError
from trtd.quantize.targets import placement_for


def test_auto_means_what_is_fastest_here() -> None:
    """onnxruntime's CPU kernels want uint8 activations; int8 ones run in float in places."""
    assert placement_for("onnxruntime-cpu", "auto", vnni=True) == placement_for("onnxruntime-cpu", "uint8", vnni=True)
    assert placement_for("onnxruntime-cpu", "auto", vnni=True).activation == "uint8"


def test_machines_without_vnni_get_7_bit_weights() -> None:
    """Two products of 8 x 8 bits overflow int16 there, silently."""
    assert placement_for("onnxruntime-cpu", "auto", vnni=False).weight_bits == 7
    assert placement_for("onnxruntime-cpu", "auto", vnni=True).weight_bits == 8


def test_symmetric_activations_fuse_and_gate_nothing() -> None:
    """Without a zero point rounding clips neither at 0 (ReLU) nor to 0..1 (HardSigmoid)."""
    placement = placement_for("onnxruntime-cpu", "int8", vnni=True)
    assert not placement.fused
    assert not placement.gates


def test_unknown_targets_are_refused_by_name() -> None:
    """A misspelt target must not get some default placement."""
    with pytest.raises(QuantizationError, match="'tensorrt'"):
        placement_for("tensorrt", "auto", vnni=True)
