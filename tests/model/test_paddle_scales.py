"""The numbers of a quantized model: what they become, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model.quantized_program import QuantizedProgram, small
from trtd.errors import ModelError
from trtd.model.inspect import read_facts
from trtd.model.paddle_scales import Scaled, read_scales
from trtd.model.pir_cut import cut
from trtd.model.pir_facts import stored_parameters


def _read(made: QuantizedProgram, folder: Path) -> list[Scaled]:
    source = made.write(folder)
    assert source.params_file is not None
    read_facts(source)  # what the parameters are, the program must agree with
    outputs = [f"out{i}" for i, op in enumerate(made.ops) if op["#"] == "1.fetch"]
    return read_scales(cut(made.program, outputs).cuts, source.params_file, stored_parameters(made.program))


def test_scales_are_magnitudes_and_weights_are_integers(tmp_path: Path) -> None:
    """Paddle's scale is 127 times ONNX's: an engine off by that factor runs, and returns noise."""
    weight, rounded, observed = _read(small(), tmp_path)
    assert weight.weight is not None
    assert weight.weight.tolist() == [[127, -5], [3, 64], [0, -127]]
    assert weight.amax.tolist() == [0.5, 2.0]
    assert (rounded.amax.shape, float(rounded.amax), float(observed.amax)) == ((), 4.0, 3.0)


def test_scales_with_axes_of_one_are_as_good(tmp_path: Path) -> None:
    """Paddle's static quantization stores per-channel scales as (1, n), and single ones as (), under other shapes."""
    weight, rounded, _ = _read(small(weight_amax=[[0.5, 2.0]], amax=4.0), tmp_path)
    assert weight.amax.tolist() == [0.5, 2.0]
    assert float(rounded.amax) == 4.0


def test_whole_numbers_may_be_stored_as_floats(tmp_path: Path) -> None:
    """paddle.quantization stores rounded weights so."""
    weight, *_ = _read(small(weight=np.array([[127, -128], [3, 64], [0, 1]], np.float32)), tmp_path)
    assert weight.weight is not None
    assert weight.weight.dtype == np.int8
    assert weight.weight.tolist() == [[127, -128], [3, 64], [0, 1]]


@pytest.mark.parametrize(
    ("round_type", "expected"),
    [(0, [[2, 127], [-2, -128], [0, 64]]), (1, [[3, 127], [-3, -127], [1, 64]])],
)
def test_unrounded_weights_are_rounded_as_paddle_does(
    round_type: int, expected: list[list[int]], tmp_path: Path
) -> None:
    """convert(remain_weight=True) leaves them so; halves and the lowest step depend on how the model was made."""
    made = QuantizedProgram()
    x = made.data("x", [1, 3])
    values = np.array([[2.5, 200], [-2.5, -200], [0.5, 64.2]], np.float32)
    w = made.weight("w", values, [127.0, 127.0], 1, stored=False, round_type=round_type)
    made.fetch("y", made.op("matmul", [x, w], [1, 2]), [1, 2])
    (weight,) = _read(made, tmp_path)
    assert weight.weight is not None
    assert weight.weight.tolist() == expected


def test_dead_channels_become_zeros(tmp_path: Path) -> None:
    """Paddle stores 0 for channels of zeros, and 1e-34 for some that training has left behind."""
    weight = np.array([[0, 9, 100], [0, -9, 5]], np.int8)
    made = small(weight=weight, weight_amax=[0.0, 1e-34, 2.0])
    scaled, *_ = _read(made, tmp_path)
    assert scaled.weight is not None
    assert scaled.weight.tolist() == [[0, 0, 100], [0, 0, 5]]
    assert scaled.amax.tolist() == [127.0, 127.0, 2.0]


def test_what_was_observed_to_be_zero_has_no_range(tmp_path: Path) -> None:
    """It is only information, and without it the model is whole."""
    made = small()
    made.arrays["y@scale"][:] = 0
    assert [each.cut.kind for each in _read(made, tmp_path)] == ["weight", "rounded"]


def _with(name: str, array: Any) -> QuantizedProgram:
    made = small()
    made.arrays[name] = np.asarray(array, made.arrays[name].dtype)
    return made


def _two_scales() -> QuantizedProgram:
    made = QuantizedProgram()
    x, zero = made.data("x", [4]), made.parameter("z", np.zeros(1, np.int32))
    scales = [made.parameter(name, np.array([amax], np.float32)) for name, amax in (("s", 1.0), ("t", 2.0))]
    quantized = made.step("quantize_linear", x, scales[0], zero, [4])
    made.fetch("out", made.step("dequantize_linear", quantized, scales[1], zero, [4]), [4])
    return made


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: _with("x@scale", [np.nan]), "'x@scale' is nan"),
        (lambda: _with("x@scale", [np.inf]), "'x@scale' is inf"),
        (lambda: _with("x@scale", [-4.0]), "'x@scale' is -4"),
        (lambda: _with("x@scale", [0.0]), "'x@scale' is 0: calibration saw nothing but zeros"),
        (lambda: _with("w@scale", [0.5, np.nan]), "'w@scale' is nan"),
        (lambda: _with("w@scale", [0.5, 0.0]), "'w@scale' is 0 for weights of 'w' that are not"),
        (lambda: _with("x@zero_point", [3]), "zero point 'x@zero_point' is not 0"),
        (lambda: small(weight_amax=[0.5]), "'w@scale' holds 1 scales for axis 1 of"),
        (lambda: small(amax=[4.0, 4.0]), "'x@scale' holds 2 scales for one tensor"),
        (lambda: small(amax=[4.0, 4.0, 4.0], quant_axis=1), "one per channel of an activation"),
        (lambda: _with("y@scale", [np.nan]), "'y@scale' is nan"),
        (lambda: small(weight=np.full((3, 2), 0.5, np.float32)), "'w' is not rounded to 8 bits"),
        (lambda: small(weight=np.full((3, 2), 200, np.float32)), "'w' is not rounded to 8 bits"),
        (lambda: small(weight=np.full((3, 2), np.nan, np.float32)), "'w' is not rounded to 8 bits"),
        (_two_scales, "of one pair of operators differ"),
    ],
)
def test_torn_numbers_are_named(made: Any, says: str, tmp_path: Path) -> None:
    """A bit flip, or parameters of another model with equal shapes: noise that nothing else would notice."""
    with pytest.raises(ModelError, match=says) as caught:
        _read(made(), tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("missing", ["x@scale", "w"])
def test_parameters_of_another_model_are_refused(missing: str, tmp_path: Path) -> None:
    """The scale, or a weight, is not in the file."""
    made = small()
    del made.arrays[missing]
    with pytest.raises(ModelError, match="parameter"):
        _read(made, tmp_path)


def test_int8_under_a_float_declaration_is_for_quantized_weights_alone(tmp_path: Path) -> None:
    """Elsewhere it means that the files do not belong together."""
    made = QuantizedProgram()
    x, w = made.data("x", [3]), made.parameter("w", np.ones(3, np.int8), "float32")
    made.fetch("y", made.op("add", [x, w], [3]), [3])
    with pytest.raises(ModelError, match=r"'w' is float32\[3\] in the program, but int8\[3\] here"):
        _read(made, tmp_path)
