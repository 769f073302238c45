"""Imported scales as Q/DQ: what is chosen, what stays float, and records of another graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantize.graphs import INT8, UINT8, UINT8_WEIGHTS_7_BITS, Net
from trtd.errors import QuantizationError
from trtd.quantize.imported import (
    ImportedQuantization,
    ObservedTensor,
    RoundedTensor,
    RoundedWeight,
    read_quantization,
    write_quantization,
)
from trtd.quantize.insert_imported import insert_as_paddle, insert_imported
from trtd.quantize.qdq import Quantized

RANDOM = np.random.default_rng(0)
WHOLE = RANDOM.integers(-100, 101, (8, 8, 3, 3))  # no channel reaches 127: abs max would find other scales


def _net() -> tuple[Net, np.ndarray]:
    """x -> [x.rounded] -> first (weight w) -> relu -> [relu.rounded] -> second (float weight) -> y."""
    net = Net({"x": [1, 8, 6, 6]})
    scales = RANDOM.uniform(0.5, 2.0, 8) / 127
    net.node("Identity", ["x"], "x.rounded")
    net.conv("x.rounded", "first", (8, 8), weight=WHOLE * scales.reshape(-1, 1, 1, 1))
    net.node("Relu", ["first"], "relu")
    net.node("Identity", ["relu"], "relu.rounded")
    net.conv("relu.rounded", "second", (8, 8))
    net.node("Relu", ["second"], "y")
    return net, scales * 127


def _imported(amax: np.ndarray, **changes: object) -> ImportedQuantization:
    fields = {
        "source_digest": "sha256:s",
        "ties_away": False,
        "activations": (
            RoundedTensor(tensor="x", rounded="x.rounded", amax=3.0, parameter="x@scale"),
            RoundedTensor(tensor="relu", rounded="relu.rounded", amax=9.0, parameter="relu@scale"),
        ),
        "observed": (ObservedTensor(tensor="first", amax=9.5, parameter="first@scale"),),
        "weights": (RoundedWeight(tensor="first_w", axis=0, amax=tuple(map(float, amax)), parameter="w"),),
    }
    return ImportedQuantization.model_validate(fields | changes)


def _constants(model: ir.Model) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in ir.to_proto(model).graph.initializer}


def _native(imported: ImportedQuantization, net: Net, placement: object = UINT8) -> tuple[Quantized, ir.Model]:
    model = ir.from_proto(net.model("y"))
    written = insert_imported(model, imported, placement)  # type: ignore[arg-type]
    onnx.checker.check_model(ir.to_proto(model))
    return written, model


def test_weights_round_to_the_integers_that_were_imported() -> None:
    """Scales by abs max would round them once more, by up to half a step."""
    net, amax = _net()
    written, model = _native(_imported(amax), net)
    assert "first" in written.nodes
    constants = _constants(model)
    np.testing.assert_array_equal(constants["first.weight.quantized"], WHOLE)
    np.testing.assert_allclose(constants["first.weight.scale"], amax / 127, rtol=1e-6)


def test_what_paddle_left_in_float_stays_float() -> None:
    """The exclusion was made for accuracy; a target must not undo it."""
    net, amax = _net()
    written, model = _native(_imported(amax), net)
    assert written.kept_float["second"] == "it is not quantized in the Paddle model"
    assert not any(name.startswith("second") for name in _constants(model) if "quantized" in name)


def test_uint8_spends_no_steps_below_a_relu_and_is_symmetric_elsewhere() -> None:
    """Zero point 128 holds Paddle's own steps; behind a ReLU half of them would never occur."""
    net, amax = _net()
    _, model = _native(_imported(amax), net)
    constants = _constants(model)
    assert [int(constants[f"{name}.q.zero_point"]) for name in ("x", "relu")] == [128, 0]
    np.testing.assert_allclose([constants["x.q.scale"], constants["relu.q.scale"]], [3 / 127, 9 / 255], rtol=1e-6)
    _, model = _native(_imported(amax), net, INT8)
    assert not any(_constants(model)[name] for name in ("x.q.zero_point", "first.q.zero_point"))


def test_without_a_range_for_its_output_a_convolution_stays_float() -> None:
    """onnxruntime's 8-bit convolution rounds its output; with a made-up range it would return noise."""
    net, amax = _net()
    bare = _imported(amax, activations=_imported(amax).activations[:1], observed=())
    with pytest.raises(QuantizationError, match="no operator is left"):
        _native(bare, net)
    net.node("MatMul", ["y", net.real("m", np.full((6, 5), 1 / 127))], "z")
    weights = (*bare.weights, RoundedWeight(tensor="m", axis=1, amax=(1.0,) * 5, parameter="m"))
    observed = (ObservedTensor(tensor="y", amax=2.0, parameter="y@scale"),)
    model = ir.from_proto(net.model("z"))
    written = insert_imported(
        model, _imported(amax, activations=bare.activations, observed=observed, weights=weights), UINT8
    )
    assert written.nodes == ["z"]
    assert written.kept_float["first"] == "Paddle recorded no range of 'relu'"


def test_without_vnni_weights_are_rounded_to_7_bits() -> None:
    """Pairs of products would overflow: what Paddle rounded to would give something else altogether."""
    net, amax = _net()
    _, model = _native(_imported(amax), net, UINT8_WEIGHTS_7_BITS)
    whole = _constants(model)["first.weight.quantized"]
    assert np.abs(whole).max() <= 63
    np.testing.assert_array_equal(whole, np.rint(WHOLE * 63 / 127))


def test_as_paddle_rounds_where_paddle_does_and_nowhere_else() -> None:
    """The proof of an import stands on it."""
    net, amax = _net()
    model = ir.from_proto(net.model("y"))
    written = insert_as_paddle(model, _imported(amax))
    made = ir.to_proto(model)
    onnx.checker.check_model(made)
    assert [node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"] == ["x", "relu"]
    assert (written.nodes, set(written.tensors)) == (["first"], {"x", "relu"})
    reads = {node.name: list(node.input) for node in made.graph.node}
    assert reads["second"][:2] == [written.tensors["relu"], "second_w"]
    assert reads["first"][0] == written.tensors["x"]


def test_a_weight_beside_a_float_activation_stays_float() -> None:
    """onnxruntime would round that activation by itself, though Paddle does not."""
    net, amax = _net()
    model = ir.from_proto(net.model("y"))
    written = insert_as_paddle(model, _imported(amax, activations=_imported(amax).activations[1:]))
    assert written.nodes == []
    assert "what it reads" in written.kept_float["first"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observed": (ObservedTensor(tensor="other", amax=1.0, parameter="o"),)}, "no tensor 'other'"),
        ({"weights": (RoundedWeight(tensor="first_w", axis=0, amax=(1.0,) * 7, parameter="w"),)}, "do not fit"),
        ({"weights": (RoundedWeight(tensor="first_w", axis=0, amax=(0.7,) * 8, parameter="w"),)}, "not made of whole"),
        ({"weights": (RoundedWeight(tensor="first_w", axis=-1, amax=(1e-6,), parameter="w"),)}, "not made of whole"),
        ({"weights": (RoundedWeight(tensor="gone", axis=0, amax=(1.0,), parameter="w"),)}, "no tensor 'gone'"),
    ],
)
def test_a_record_of_another_graph_is_refused(change: dict[str, object], says: str) -> None:
    """Two conversions may name tensors alike; scales on the wrong weights return noise."""
    net, amax = _net()
    with pytest.raises(QuantizationError, match=says) as caught:
        _native(_imported(amax, **change), net)
    assert "convert the model again" in caught.value.hint


def test_a_record_survives_the_disk_and_a_torn_one_is_named(tmp_path: Path) -> None:
    """It passes from one process to the next."""
    file = tmp_path / "quantization.json"
    imported = _imported(np.ones(8))
    write_quantization(imported, file)
    assert read_quantization(file) == imported
    file.write_text(file.read_text()[:-20])
    with pytest.raises(QuantizationError, match="imported scales cannot be read"):
        read_quantization(file)
    with pytest.raises(QuantizationError, match="No such file"):
        read_quantization(tmp_path / "missing.json")


@pytest.mark.parametrize("native", [True, False])
def test_opsets_without_scales_per_channel_are_refused(native: bool) -> None:
    """As for any model."""
    net, amax = _net()
    model = ir.from_proto(net.model("y"))
    model.opset_imports[""] = 12
    with pytest.raises(QuantizationError, match="opset 12"):
        _ = insert_imported(model, _imported(amax), UINT8) if native else insert_as_paddle(model, _imported(amax))
