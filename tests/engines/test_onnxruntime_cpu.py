"""The ONNX Runtime runner: named arrays in, named arrays out, and an EngineError for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.models import write_gather, write_sum
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.protocol import Runner
from trtd.errors import EngineError
from trtd.model.facts import TensorFacts

A = np.array([[1, 2, 3], [6, 5, 4]], np.float32)
B = np.array([10], np.float32)


@pytest.fixture
def runner(tmp_path: Path) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(write_sum(tmp_path / "model.onnx"), threads=1)


def test_runs_by_name_in_the_models_order(runner: OnnxRuntimeRunner) -> None:
    """Feeds are named, so their order does not matter; outputs come in the model's order."""
    outputs = runner.run({"b": B, "a": A})
    assert list(outputs) == ["y", "best"]
    assert outputs["y"].tolist() == [[12, 14, 16], [22, 20, 18]]
    assert outputs["best"].tolist() == [2, 0]
    assert outputs["best"].dtype == np.int64


def test_knows_its_inputs_and_outputs(runner: OnnxRuntimeRunner) -> None:
    """Open dimensions are None, whatever the file calls them."""
    protocol: Runner = runner
    assert protocol.inputs == (
        TensorFacts(name="a", dtype="float32", shape=(None, 3)),
        TensorFacts(name="b", dtype="float32", shape=(1,)),
    )
    assert [(o.name, o.dtype, o.shape) for o in protocol.outputs] == [
        ("y", "float32", (None, 3)), ("best", "int64", (None,))
    ]  # fmt: skip


def test_arrays_may_lie_in_memory_as_they_like(runner: OnnxRuntimeRunner) -> None:
    """A transposed view is what preprocessing often ends with."""
    turned = np.asfortranarray(A)
    assert runner.run({"a": turned, "b": B})["y"].tolist() == [[12, 14, 16], [22, 20, 18]]
    assert runner.run({"a": np.repeat(A, 2, axis=1)[:, ::2], "b": B})["y"][0].tolist() == [12, 14, 16]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": A}, "input 'b' is missing"),
        ({"a": A, "b": B, "c": B}, "there is no input 'c'"),
        ({"a": A.astype(np.float64), "b": B}, r"input 'a' is float64 of shape \[2, 3\], not float32 \[\?, 3\]"),
        ({"a": A[:, :2], "b": B}, r"input 'a' is float32 of shape \[2, 2\]"),
        ({"a": A[0], "b": B}, r"input 'a' is float32 of shape \[3\]"),
        ({"a": A.tolist(), "b": B}, "input 'a' is a list, not a numpy array"),
    ],
)
def test_wrong_feeds_are_refused_by_name(runner: OnnxRuntimeRunner, feeds: Any, message: str) -> None:
    """onnxruntime's own message names neither what is wanted nor what was given."""
    with pytest.raises(EngineError, match=message) as caught:
        runner.run(feeds)
    assert caught.value.hint
    assert caught.value.where in {"a", "b", "c"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<!DOCTYPE html><html></html>",
        b"\x08" * 99,
    ],
)
def test_files_that_are_no_model_are_refused(content: bytes, tmp_path: Path) -> None:
    """A torn download must end in an error of ours that names the file."""
    (tmp_path / "torn.onnx").write_bytes(content)
    with pytest.raises(EngineError, match="cannot load it") as caught:
        OnnxRuntimeRunner(tmp_path / "torn.onnx")
    assert caught.value.where == str(tmp_path / "torn.onnx")
    assert "onnxruntime" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_truncated_models_are_refused(tmp_path: Path) -> None:
    """Wherever the file ends, it either loads as what it says or is refused: never a crash."""
    whole = write_sum(tmp_path / "model.onnx").read_bytes()
    refused = 0
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        try:
            OnnxRuntimeRunner(tmp_path / "cut.onnx", threads=1).close()
        except EngineError:
            refused += 1
    assert refused > len(whole) // 7 // 2


def test_missing_files_are_refused(tmp_path: Path) -> None:
    """By path."""
    with pytest.raises(EngineError, match=r"nowhere\.onnx"):
        OnnxRuntimeRunner(tmp_path / "nowhere.onnx")


def test_failures_while_running_name_the_node(tmp_path: Path) -> None:
    """An index out of range is known only at run time; the node's name is what can be excluded or looked at."""
    runner = OnnxRuntimeRunner(write_gather(tmp_path / "model.onnx"), threads=1)
    assert runner.run({"index": np.array([3, 0])})["y"].tolist() == [[9, 10, 11], [0, 1, 2]]
    with pytest.raises(EngineError, match=r"onnxruntime failed: .*idx=99") as caught:
        runner.run({"index": np.array([3, 99])})
    assert caught.value.where == "look_up"
    assert runner.run({"index": np.array([0, 0])})["y"].tolist() == [[0, 1, 2]] * 2  # and it still works


def test_threads_change_nothing_but_speed(tmp_path: Path) -> None:
    """The daemon limits threads; results must not depend on it."""
    path = write_sum(tmp_path / "model.onnx")
    one, two = (OnnxRuntimeRunner(path, threads=n).run({"a": A, "b": B})["y"] for n in (1, 2))
    assert np.array_equal(one, two)
