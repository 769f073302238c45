"""Models that Paddle has quantized, imported: they compute what Paddle computes, and serve targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from tests.quantize.graphs import INT8, UINT8, kernels, relative_l2, session
from tests.quantized.models import Array, Imported
from trtd.errors import ConversionError
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.quantize.graph import load
from trtd.quantize.imported import QUANTIZATION_FILE, read_quantization
from trtd.quantize.insert_imported import insert_as_paddle, insert_imported
from trtd.quantize.paddle_import import FOLDED_FILE, FP32_FILE
from trtd.quantize.scales import ActivationType
from trtd.quantize.tap import supply

Import = Callable[[str], Imported]

# Of whole networks: where sums differ in their last bits, a rounding may fall the other way and shift later ones.
# When this was written, none did, and 2e-7 was the largest difference.
PARITY = 1e-3
STEP_PARITY = 1e-5  # from one rounding to the next
MODELS = ["calibrated", "trained", "stored", "unrounded"]
OUTPUTS = {"trained": ["residual"]}


def _as_paddle(model: Imported, activation: ActivationType = "int8") -> onnx.ModelProto:
    graph = load(model.folder / FOLDED_FILE)
    insert_as_paddle(graph, model.quantization, activation)
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    return made


def _run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What the graph says, operator by operator.

    onnxruntime's optimizer rounds biases to int32 (WeightBiasQuantization) and float activations beside int8 weights
    (MatMulNBits): Paddle's run does neither.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[Array] = session(model, options).run(None, feeds)
    return found


def _fake_quantize(values: Array, amax: float) -> Array:
    """Paddle's kernels in numpy, float32 throughout; sources in trtd.model.pir_rounding."""
    steps = np.clip(np.rint(np.float32(127) * (np.float32(1) / np.float32(amax)) * values), -128, 127)
    fake: Array = steps * np.float32(amax) / np.float32(127)
    return fake


@pytest.mark.parametrize("name", MODELS)
def test_the_imported_model_computes_what_paddle_computes(name: str, imported: Import) -> None:
    """The proof of the import: residuals, depthwise and transposed convolutions, gates, attention, LayerNorm."""
    model = imported(name)
    assert read_facts(locate(model.source)).quantized
    wanted = list(model.named("output").values())
    rounded = _run(_as_paddle(model), model.named("input"))
    plain = _run(onnx.load(model.folder / FP32_FILE), model.named("input"))
    branches = OUTPUTS.get(name, ["residual", "mobile", "former"])
    for branch, reference, found, unrounded in zip(branches, wanted, rounded, plain, strict=True):
        assert relative_l2(reference, found) <= PARITY, branch
        # What the roundings do must be far larger than that, or they could be missing.
        assert relative_l2(reference, unrounded) >= 5 * PARITY, branch


@pytest.mark.parametrize("name", ["calibrated", "trained"])
def test_each_step_between_two_roundings_computes_what_paddle_computes(name: str, imported: Import) -> None:
    """Every part gets Paddle's own rounded values: so nothing that one part does is hidden or blamed on another.

    In a deep network one rounding that falls the other way changes many later ones; here it cannot.
    """
    model = imported(name)
    truth = model.named("rounded")
    assert {each.parameter for each in model.quantization.activations} == set(truth)
    graph = load(model.folder / FOLDED_FILE)
    written = insert_as_paddle(graph, model.quantization)
    supplied = supply(graph, written.tensors.values())
    feeds = model.named("input")
    inner = {each.tensor: each for each in model.quantization.activations if each.tensor not in feeds}
    for each in model.quantization.activations:
        feeds[supplied[written.tensors[each.tensor]]] = _fake_quantize(truth[each.parameter], each.amax)
    graph.graph.outputs.extend(v for node in graph.graph for v in node.outputs if v.name in inner)
    made = ir.to_proto(graph)
    found = dict(zip([output.name for output in made.graph.output], _run(made, feeds), strict=True))
    for tensor, each in inner.items():
        assert relative_l2(truth[each.parameter], found[tensor]) <= STEP_PARITY, tensor
        before, after = (np.rint(a / each.amax * 127).clip(-128, 127) for a in (truth[each.parameter], found[tensor]))
        assert (before != after).mean() <= 1e-4, tensor


def test_uint8_with_zero_point_128_is_the_same(imported: Import) -> None:
    """-128 to 127 and 0 to 255 hold the same steps, so targets may have either."""
    model = imported("calibrated")
    int8, uint8 = (_run(_as_paddle(model, kind), model.named("input")) for kind in ("int8", "uint8"))
    for one, other in zip(int8, uint8, strict=True):
        assert relative_l2(one, other) <= PARITY


def test_the_scales_in_the_graph_are_those_in_paddle(imported: Import) -> None:
    """TensorRT's rules: symmetric int8 with zero point 0, weights by channel, biases in float."""
    model = imported("calibrated")
    made = _as_paddle(model)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    by_output = {node.output[0]: node for node in made.graph.node}
    pairs = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
    amax = sorted(each.amax for each in model.quantization.activations)
    np.testing.assert_allclose(sorted(float(constants[q.input[1]]) * 127 for q in pairs), amax, rtol=1e-6)
    assert all(not constants[q.input[2]] and constants[q.input[2]].dtype == np.int8 for q in pairs)
    weighted = [node for node in made.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm")]
    assert weighted
    for node in weighted:
        dequantize = by_output[node.input[1]]
        assert dequantize.op_type == "DequantizeLinear"
        assert constants[dequantize.input[0]].dtype == np.int8
        assert constants[dequantize.input[1]].ndim == 1
        assert all(constants[name].dtype == np.float32 for name in node.input[2:])


def test_batch_norm_is_folded_and_what_paddle_skips_stays_float(imported: Import) -> None:
    """Folding must not cost the integers, nor exclusions be forgotten."""
    model = imported("calibrated")
    kinds = {node.op_type for node in onnx.load(model.folder / FOLDED_FILE).graph.node}
    assert "BatchNormalization" not in kinds
    weights = {weight.parameter for weight in model.quantization.weights}
    assert "linear_6.w_0" not in weights
    assert {"conv2d_0.w_0", "conv2d_transpose_0.w_0", "linear_0.w_0"} <= weights
    assert any(each.parameter == "conv2d_0.w_0" and len(each.amax) == 8 for each in model.quantization.weights)


@pytest.mark.parametrize("placement", [UINT8, INT8], ids=["uint8", "int8"])
def test_a_target_gets_its_own_placement_with_the_imported_scales(placement: object, imported: Import) -> None:
    """On CPUs, Paddle's placement is slower than FP32: convolutions whose outputs are not rounded run in float."""
    model = imported("calibrated")
    graph = load(model.folder / FOLDED_FILE)
    written = insert_imported(graph, model.quantization, placement)  # type: ignore[arg-type]  # parametrized
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    assert kernels(made)["QLinearConv"] >= (8 if placement is UINT8 else 3)
    assert kernels(made)["QGemm"] == 1
    plain = _run(onnx.load(model.folder / FP32_FILE), model.named("input"))
    for found, reference in zip(_run(made, model.named("input")), plain, strict=True):
        assert relative_l2(reference, found) <= 0.1
    assert set(written.tensors) <= {v.name for n in load(model.folder / FOLDED_FILE).graph for v in n.outputs} | {
        "image",
        "tokens",
    }
    assert "it is not quantized in the Paddle model" in written.kept_float.values()


def test_what_is_written_can_be_read_again_and_says_where_it_comes_from(imported: Import) -> None:
    """Later stages know nothing but the files."""
    model = imported("calibrated")
    assert sorted(file.name for file in model.folder.iterdir()) == sorted([FP32_FILE, FOLDED_FILE, QUANTIZATION_FILE])
    assert read_quantization(model.folder / QUANTIZATION_FILE) == model.quantization
    assert model.quantization.source_digest == read_facts(locate(model.source)).digest
    assert any("activations rounded to 8 bits" in line for line in model.log)


def test_tensors_have_the_names_of_paddle_variables(imported: Import) -> None:
    """Reports and exclusions name tensors; those of the converter say nothing to whoever knows the model."""
    model = imported("calibrated")
    names = {each.tensor for each in model.quantization.activations}
    assert {"image", "relu_0.tmp_0"} <= names
    assert not any(name.startswith("trtd.") for name in names)


def test_the_older_form_is_refused_with_the_option_that_helps(quantized_programs: Path, tmp_path: Path) -> None:
    """fake_quantize operators do not say where a scale applies."""
    from trtd.quantize.paddle_import import convert_quantized

    facts = read_facts(locate(quantized_programs / "fake"))
    assert facts.quantized
    with pytest.raises(ConversionError, match="fake_quantize_dequantize_abs_max") as caught:
        convert_quantized(locate(quantized_programs / "fake"), tmp_path, print)
    assert "onnx_format=True" in caught.value.hint
    with pytest.raises(ConversionError, match="no quantized Paddle model"):
        convert_quantized(locate(quantized_programs / "float"), tmp_path, print)
