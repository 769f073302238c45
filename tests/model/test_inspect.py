"""Facts read from model files, and that no damaged file yields any."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.conftest import small_onnx
from trtd.errors import ModelError
from trtd.model.facts import ModelFacts, TensorFacts
from trtd.model.inspect import files_digest, read_facts
from trtd.model.locate import locate

_PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_facts_of_a_pir_program(pir_models: Path) -> None:
    """Would break if Paddle 3's JSON were read wrongly."""
    facts = read_facts(locate(pir_models / "cnn"))
    assert facts.format == "paddle-pir"
    assert facts.inputs == (TensorFacts(name="x", dtype="float32", shape=(None, 3, None, None)),)
    assert facts.outputs == (TensorFacts(name="fetch_name_0", dtype="float32", shape=(None, 5)),)
    assert facts.ops["conv2d"] == 1
    assert facts.ops["batch_norm_"] == 2
    assert not {"data", "fetch", "p", "feed"} & facts.ops.keys()
    assert (facts.opset, facts.quantized) == (None, False)
    assert facts.digest == files_digest(locate(pir_models / "cnn").files)


def test_facts_of_an_older_program(program_models: Path) -> None:
    """Would break if .pdmodel were read wrongly."""
    facts = read_facts(locate(program_models / "cnn"))
    assert facts.format == "paddle-program"
    assert facts.inputs == (TensorFacts(name="x", dtype="float32", shape=(None, 3, None, None)),)
    assert [(t.dtype, t.shape) for t in facts.outputs] == [("float32", (None, 5))]
    assert facts.ops["conv2d"] == 1
    assert not {"feed", "fetch"} & facts.ops.keys()


def test_facts_of_onnx(onnx_file: Path) -> None:
    """Initializers that are listed as inputs, as older exporters do, are not inputs."""
    model = onnx.load(str(onnx_file))
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4, 3, 3, 3]))
    onnx.save(model, str(onnx_file))
    facts = read_facts(locate(onnx_file))
    assert facts.inputs == (TensorFacts(name="x", dtype="float32", shape=(None, 3, None, None)),)
    assert facts.outputs == (TensorFacts(name="y", dtype="float32", shape=(None, 4, None, None)),)
    assert facts.opset == 17
    assert facts.ops == {"BatchNormalization": 1, "Conv": 1, "Identity": 1, "Relu": 1}
    assert ModelFacts.model_validate_json(facts.model_dump_json()) == facts


def test_operators_in_subgraphs_count_and_quantization_shows(tmp_path: Path) -> None:
    """A Q/DQ model hidden in a branch must not be quantized twice."""
    helper = onnx.helper
    out = [helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, None)]
    constants = [helper.make_tensor("scale", 1, [], [0.1]), helper.make_tensor("zero", 3, [], [0])]
    inner = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["k"]),
        helper.make_node("DequantizeLinear", ["k", "scale", "zero"], ["q"]),
    ]
    branch = helper.make_graph(inner, "then", [], out)
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["q"])], "else", [], out)
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)],
        "g",
        [helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("y", 1, [2])],
        constants,
    )
    file = tmp_path / "branch.onnx"
    file.write_bytes(helper.make_model(graph).SerializeToString())
    facts = read_facts(locate(file))
    assert facts.ops == {"If": 1, "QuantizeLinear": 1, "DequantizeLinear": 1, "Identity": 1}
    assert facts.quantized


def test_reading_facts_imports_no_heavy_library(pir_models: Path, program_models: Path, onnx_file: Path) -> None:
    """``trtd check`` must answer in a blink."""
    program = (
        "import sys; from pathlib import Path; from trtd.model.locate import locate;"
        "from trtd.model.inspect import read_facts;"
        "[read_facts(locate(Path(p))) for p in sys.argv[1:]];"
        "print(sorted({'paddle', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    paths = [str(p) for p in (pir_models / "cnn", program_models / "cnn", onnx_file)]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def _offsets(size: int) -> list[int]:
    """Every offset near both ends, where the fields that close a file lie, and some hundred between."""
    return sorted({*range(min(64, size)), *range(0, size, max(1, size // 300)), *range(max(0, size - 400), size)})


def _is_refused(folder: Path) -> bool:
    """Whether the model is refused; any other outcome than facts or a ModelError with a hint fails the test."""
    try:
        return not read_facts(locate(folder)).outputs
    except ModelError as error:
        return bool(error.hint)


@pytest.mark.parametrize("name", ["inference.json", "inference.pdmodel", "inference.pdiparams", "model.onnx"])
def test_every_truncation_is_noticed(name: str, pir_models: Path, program_models: Path, tmp_path: Path) -> None:
    """A half-copied model would else become an engine that lacks its last layers."""
    folder = tmp_path / "torn"
    if name == "model.onnx":
        folder.mkdir()
        (folder / name).write_bytes(small_onnx().SerializeToString())
    else:
        shutil.copytree((program_models if name == "inference.pdmodel" else pir_models) / "cnn", folder)
    file = folder / name
    whole = file.read_bytes()
    read_facts(locate(folder))
    for offset in _offsets(len(whole)):
        file.write_bytes(whole[:offset])
        assert _is_refused(folder), f"cut at {offset} of {len(whole)} went unnoticed"


@pytest.mark.parametrize("name", ["inference.json", "inference.pdmodel", "inference.pdiparams", "model.onnx"])
@_PROPERTY
@given(data=st.data())
def test_damaged_files_are_read_or_refused_but_never_crash(
    name: str, data: st.DataObject, pir_models: Path, program_models: Path, tmp_path: Path
) -> None:
    """Any other exception than ModelError would be taken for a bug of trtd and retried."""
    folder = tmp_path / "damaged"
    if not folder.exists():
        shutil.copytree((program_models if name == "inference.pdmodel" else pir_models) / "cnn", folder)
        if name == "model.onnx":
            shutil.rmtree(folder)
            folder.mkdir()
    if name == "model.onnx":
        original = small_onnx().SerializeToString()
    else:
        original = ((program_models if name == "inference.pdmodel" else pir_models) / "cnn" / name).read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8), label="changes")):
        position = data.draw(st.integers(0, len(damaged) - 1), label="position")
        damaged[position] = data.draw(st.integers(0, 255), label="byte")
    (folder / name).write_bytes(damaged)
    _is_refused(folder)


@pytest.mark.parametrize("suffix", [".json", ".pdmodel", ".onnx"])
@_PROPERTY
@given(content=st.binary(min_size=1, max_size=200))
def test_random_bytes_are_no_model(suffix: str, content: bytes, tmp_path: Path) -> None:
    """A parser's own exception must not escape."""
    file = tmp_path / f"noise{suffix}"
    file.write_bytes(content)
    with pytest.raises(ModelError):
        read_facts(locate(file))


def test_deeply_nested_graphs_are_refused(tmp_path: Path) -> None:
    """A few kilobytes must not exhaust the stack."""
    graph = onnx.helper.make_graph([], "leaf", [], [])
    blob = graph.SerializeToString()
    for _ in range(300):
        attribute = _field(6, blob)  # AttributeProto.g
        blob = _field(1, _field(5, attribute))  # GraphProto.node, NodeProto.attribute
    file = tmp_path / "deep.onnx"
    file.write_bytes(_field(7, blob))
    with pytest.raises(ModelError, match="protobuf"):
        locate(file)


def _field(number: int, payload: bytes) -> bytes:
    size, length = b"", len(payload)
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + payload


def test_a_tensor_that_does_not_fit_its_shape_is_refused(tmp_path: Path) -> None:
    """onnxruntime would read past the end of such weights, or stop with a riddle."""
    model = small_onnx()
    model.graph.initializer[0].dims[0] = 5
    file = tmp_path / "misfit.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="'w' is damaged"):
        read_facts(locate(file))
