"""Quantized programs on their way through paddle2onnx."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.model.quantized_program import QuantizedProgram, small
from trtd.errors import ConversionError, ModelError
from trtd.model.convert_open import to_open_onnx

needs_converter = pytest.mark.skipif(find_spec("paddle2onnx") is None, reason="paddle2onnx is not installed")


@needs_converter
def test_the_open_graph_has_an_end_for_each_rounding(tmp_path: Path) -> None:
    """paddle2onnx itself must keep every name, or nothing can be sewn together again."""
    scaled = to_open_onnx(small().write(tmp_path / "model"), tmp_path / "open.onnx", print)
    graph = onnx.load(tmp_path / "open.onnx").graph
    ends = [each.cut.name for each in scaled if each.cut.kind != "observed"]
    assert sorted(value.name for value in graph.input) == sorted(["x", *ends])
    assert [value.name for value in graph.output] == ["fetch_name_0"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "open.onnx"]


@needs_converter
def test_an_output_that_is_rounded_survives(tmp_path: Path) -> None:
    """A layer that is observed at the very end: paddle2onnx loses outputs that are inputs."""
    made = QuantizedProgram()
    x = made.data("x", [2, 3])
    made.fetch("fetch_name_0", made.round(made.op("relu", [x], [2, 3]), "y", [1.0], [2, 3]), [2, 3])
    made.parameter("unused", np.ones(1, np.float32))
    (rounded,) = to_open_onnx(made.write(tmp_path / "model"), tmp_path / "open.onnx", print)
    graph = onnx.load(tmp_path / "open.onnx").graph
    assert [value.name for value in graph.output] == ["fetch_name_0", rounded.cut.source]


@needs_converter
def test_an_operator_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    """As in a float model; and nothing is left behind."""
    made = small()
    relu = next(op for op in made.ops if op["#"] == "1.relu")
    relu["#"] = "1.erfinv"
    with pytest.raises(ConversionError, match="erfinv") as caught:
        to_open_onnx(made.write(tmp_path / "model"), tmp_path / "open.onnx", print)
    assert caught.value.hint
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_torn_scales_are_found_before_anything_is_converted(tmp_path: Path) -> None:
    """Minutes are better spent otherwise."""
    log: list[str] = []
    with pytest.raises(ModelError, match="'x@scale' is nan"):
        to_open_onnx(small(amax=[np.nan]).write(tmp_path / "model"), tmp_path / "open.onnx", log.append)
    assert log == []
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    """Without scales there is nothing to import, and an engine of it would be float under another name."""
    made = QuantizedProgram()
    made.fetch("y", made.op("relu", [made.data("x", [2])], [2]), [2])
    made.parameter("unused", np.ones(1, np.float32))
    with pytest.raises(ConversionError, match="no quantized Paddle model"):
        to_open_onnx(made.write(tmp_path / "model"), tmp_path / "open.onnx", print)
