"""config.pbtxt, parsed by Triton's own protobuf."""

from __future__ import annotations

import string

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from trtd.errors import RegistryError
from trtd.model.facts import TensorFacts
from trtd.registry.triton import config_pbtxt

CPU = "onnxruntime-cpu"


def parse(text: str) -> model_config_pb2.ModelConfig:
    """The text as Triton reads it: unknown fields and enum names are errors."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensor(*shape: int | None, name: str = "x", dtype: str = "float32") -> TensorFacts:
    return TensorFacts(name=name, dtype=dtype, shape=shape)


def test_what_triton_must_know() -> None:
    """A wrong field here and the published engine does not load."""
    config = parse(config_pbtxt("digits", CPU, [tensor(1, 3, None, 640)], [tensor(1, 10, name="y")], 1))
    assert config.name == "digits"
    assert config.backend == "onnxruntime"
    assert config.default_model_filename == "model.onnx"
    assert config.version_policy.latest.num_versions == 1
    assert config.max_batch_size == 0
    assert [list(t.dims) for t in config.input] == [[1, 3, -1, 640]]
    assert [list(t.dims) for t in config.output] == [[1, 10]]
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_CPU]


def test_a_batching_engine_loses_its_first_dimension() -> None:
    """Triton adds the batch dimension itself: with it in dims, every request would be refused."""
    config = parse(config_pbtxt("d", CPU, [tensor(None, 3, 8)], [tensor(None, 10), tensor(None)], 4))
    assert config.max_batch_size == 4
    assert [list(t.dims) for t in (*config.input, *config.output)] == [[3, 8], [10], [1]]
    assert [t.HasField("reshape") for t in config.output] == [False, True]
    assert list(config.output[1].reshape.shape) == []


@pytest.mark.parametrize(
    ("inputs", "outputs", "max_batch_size"),
    [
        ([tensor(None, 3)], [tensor(None, 10)], 1),
        ([tensor(None, 3)], [tensor(None, 10)], 0),
        ([tensor(None, 3), tensor(1, 3)], [tensor(None, 10)], 4),
        ([tensor(None, 3)], [tensor(10)], 4),
        ([tensor(None, 3)], [tensor()], 4),
    ],
)
def test_no_batching_unless_all_tensors_allow_it(
    inputs: list[TensorFacts], outputs: list[TensorFacts], max_batch_size: int
) -> None:
    """Triton would cut a fixed dimension in slices and hand out wrong results."""
    config = parse(config_pbtxt("d", CPU, inputs, outputs, max_batch_size))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 3]


def test_a_scalar_is_reshaped() -> None:
    """Triton refuses empty dims."""
    config = parse(config_pbtxt("d", CPU, [tensor()], [tensor(1)], 0))
    assert list(config.input[0].dims) == [1]
    assert config.input[0].HasField("reshape")
    assert not config.output[0].HasField("reshape")


@pytest.mark.parametrize(
    ("dtype", "triton"),
    [
        ("float16", "TYPE_FP16"),
        ("float32", "TYPE_FP32"),
        ("float64", "TYPE_FP64"),
        ("int8", "TYPE_INT8"),
        ("int32", "TYPE_INT32"),
        ("int64", "TYPE_INT64"),
        ("uint8", "TYPE_UINT8"),
        ("bool", "TYPE_BOOL"),
        ("str", "TYPE_STRING"),
        ("bfloat16", "TYPE_BF16"),
    ],
)
def test_every_dtype_has_tritons_name(dtype: str, triton: str) -> None:
    """A wrong type makes Triton misread every request."""
    config = parse(config_pbtxt("d", CPU, [tensor(1, dtype=dtype)], [tensor(1)], 0))
    assert model_config_pb2.DataType.Name(config.input[0].data_type) == triton


def test_what_triton_cannot_serve_is_refused() -> None:
    """An engine with a configuration that Triton refuses would be published and never served."""
    with pytest.raises(RegistryError, match="complex64"):
        config_pbtxt("d", CPU, [tensor(1, dtype="complex64")], [], 0)
    with pytest.raises(RegistryError, match="abacus"):
        config_pbtxt("d", "abacus", [tensor(1)], [tensor(1)], 0)


@given(st.text(min_size=1) | st.text(string.punctuation, min_size=1), st.lists(st.none() | st.integers(1, 2**40)))
def test_any_tensor_name_and_shape_survives(name: str, shape: list[int | None]) -> None:
    """Tensor names are anything: quotes, slashes, backslashes, line breaks, other scripts."""
    config = parse(config_pbtxt("d", CPU, [tensor(*shape, name=name)], [tensor(1)], 0))
    assert config.input[0].name == name
    assert len(config.input) == 1
    assert list(config.input[0].dims) == ([-1 if dim is None else dim for dim in shape] or [1])


def test_engines_for_several_gpus_are_one_model() -> None:
    """Triton picks by the compute capability of the GPU that it runs on; there is no default to fall back to."""
    variants = {"8.6": "model_cc86.plan", "12.0": "model_cc120.plan"}
    config = parse(config_pbtxt("d", "tensorrt", [tensor(None, 3)], [tensor(None, 9)], 8, variants))
    assert config.backend == "tensorrt"
    assert dict(config.cc_model_filenames) == variants
    assert config.default_model_filename == ""
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_GPU]
