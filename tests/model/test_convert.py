"""Conversion of real Paddle models: names, parity with Paddle Inference, and what fails by name."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.model.conftest import small_onnx
from trtd.errors import ConversionError, EnvironmentMissing
from trtd.model.convert import to_onnx
from trtd.model.converter import CONVERTER_PYTHON
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.onnx_file import name_nodes
from trtd.model.pir import RULES
from trtd.model.simplify import simplify

PARITY = 1e-4


def _quiet(line: str) -> None:
    """A build log that nobody reads."""


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _check_parity(model: Path, onnx_file: Path) -> None:
    """Names, order, dtypes, shapes and values are those of Paddle Inference."""
    reference = np.load(model / "reference.npz")
    session = _session(onnx_file)
    facts = read_facts(locate(model))
    assert [i.name for i in session.get_inputs()] == [t.name for t in facts.inputs]
    assert [o.name for o in session.get_outputs()] == [t.name for t in facts.outputs]
    got = session.run(None, {"x": reference["input:x"]})
    wanted = [reference[key] for key in reference.files if key.startswith("output:")]
    for tensor, a, b in zip(facts.outputs, wanted, got, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), tensor.name
        error = np.linalg.norm(a.astype(float) - b.astype(float)) / max(float(np.linalg.norm(a)), 1e-12)
        assert error <= PARITY, f"{tensor.name}: {error}"


needs_converter = pytest.mark.skipif(
    find_spec("paddle2onnx") is None and CONVERTER_PYTHON not in os.environ,
    reason="paddle2onnx is not installed; it has no release for Python 3.13",
)
OLDER = {"mean-all", "shape-list", "in-place-scale"}
CURED = {rule.name for rule in RULES} - OLDER - {"adaptive-max"}


@needs_converter
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("cured", CURED),
        ("fixed_pools", {"adaptive-average", "adaptive-max"}),
        ("recurrent", set()),
        ("shapeless", set()),
        ("older", OLDER),
    ],
)
def test_models_convert_and_agree(
    name: str, rules: set[str], pir_models: Path, program_models: Path, tmp_path: Path
) -> None:
    """A wrong rule, or a new paddle2onnx that reads something else, shows here as a number."""
    model = (program_models if name == "older" else pir_models) / name
    converted, simplified = tmp_path / "a.onnx", tmp_path / "b.onnx"
    log: list[str] = []
    to_onnx(locate(model), converted, log.append)
    _check_parity(model, converted)
    simplify(converted, simplified)
    _check_parity(model, simplified)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    applied = [line.removeprefix("PIR normalization: ") for line in log if line.startswith("PIR normalization: ")]
    assert {line.partition(",")[0] for line in applied} == rules


@needs_converter
def test_an_older_program_converts_and_agrees(program_models: Path, tmp_path: Path) -> None:
    """.pdmodel goes through Paddle's translation to PIR; its output names must survive."""
    converted, simplified = tmp_path / "a.onnx", tmp_path / "b.onnx"
    to_onnx(locate(program_models / "cnn"), converted, _quiet)
    simplify(converted, simplified)
    _check_parity(program_models / "cnn", simplified)
    kinds = {node.op_type for node in onnx.load(str(simplified)).graph.node}
    assert "BatchNormalization" not in kinds
    assert {"Conv", "ConvTranspose"} <= kinds


@needs_converter
def test_an_unknown_operator_is_named(pir_models: Path, tmp_path: Path) -> None:
    """paddle2onnx aborts without saying which operator it does not know."""
    with pytest.raises(ConversionError, match="affine_grid") as caught:
        to_onnx(locate(pir_models / "unsupported"), tmp_path / "out.onnx", _quiet)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["packages", "interpreter"])
def test_a_missing_converter_says_what_to_type(
    missing: str, pir_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Python 3.13 there is no paddle2onnx: another interpreter may convert, and the error says how."""
    bare = tmp_path / "python"
    if missing == "packages":
        bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        bare.chmod(0o755)
    monkeypatch.setenv(CONVERTER_PYTHON, str(bare))
    with pytest.raises(EnvironmentMissing) as caught:
        to_onnx(locate(pir_models / "shapeless"), tmp_path / "out.onnx", _quiet)
    assert "pip install" in caught.value.hint or CONVERTER_PYTHON in caught.value.hint


def test_a_model_too_large_for_the_converter_is_refused_at_once(
    pir_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paddle2onnx fails above 2 GiB, minutes later and with a riddle."""
    monkeypatch.setattr("trtd.model.convert.INSIDE_LIMIT_BYTES", 100)
    with pytest.raises(ConversionError, match="2 GiB"):
        to_onnx(locate(pir_models / "cured"), tmp_path / "out.onnx", _quiet)


def test_an_onnx_model_is_copied_and_old_opsets_are_raised(tmp_path: Path) -> None:
    """Per-channel quantization needs opset 13."""
    model = small_onnx()
    model.opset_import[0].version = 11
    source = tmp_path / "old.onnx"
    onnx.save(model, str(source))
    to_onnx(locate(source), tmp_path / "new.onnx", _quiet)
    assert read_facts(locate(tmp_path / "new.onnx")).opset == 17
    feed = np.random.default_rng(0).standard_normal((1, 3, 5, 4), "float32")
    name_nodes(model.graph)  # onnxruntime refuses the doubled names that the copy mends
    onnx.save(model, str(source))
    before, after = (_session(tmp_path / name).run(None, {"x": feed})[0] for name in ("old.onnx", "new.onnx"))
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)


def test_weights_listed_as_inputs_become_constants(tmp_path: Path) -> None:
    """Old exporters list weights as inputs; left so, nothing could be folded or quantized, without a word."""
    model = small_onnx()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, tmp_path / "old.onnx")
    to_onnx(locate(tmp_path / "old.onnx"), tmp_path / "new.onnx", print)
    stored = {tensor.name for tensor in model.graph.initializer}
    assert stored
    assert not stored & {value.name for value in onnx.load(tmp_path / "new.onnx").graph.input}


def test_an_onnx_model_that_the_checker_refuses_is_refused(tmp_path: Path) -> None:
    """A node that reads a tensor nobody writes."""
    model = small_onnx()
    model.graph.node[0].input[0] = "nobody"
    source = tmp_path / "broken.onnx"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="nobody"):
        to_onnx(locate(source), tmp_path / "out.onnx", _quiet)


def test_a_quantized_paddle_model_is_refused_before_paddle2onnx_aborts(pir_models: Path, tmp_path: Path) -> None:
    """trtd calibrates by itself; the float model is what it needs."""
    folder = tmp_path / "model"
    folder.mkdir()
    program = (pir_models / "shapeless" / "inference.json").read_text()
    (folder / "inference.json").write_text(program.replace("1.relu", "1.quantize_linear"))
    with pytest.raises(ConversionError, match="already quantized"):
        to_onnx(locate(folder), tmp_path / "out.onnx", _quiet)
