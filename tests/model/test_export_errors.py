"""From paddle2onnx's words to one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtd.model.export_errors import explain, wrote
from trtd.model.facts import ModelFacts

FACTS = ModelFacts(
    format="paddle-pir",
    files=(),
    inputs=(),
    outputs=(),
    ops={"conv2d": 1, "nms": 1},
    opset=None,
    digest="",
    quantized=False,
)


@pytest.mark.parametrize(
    ("output", "code", "message", "hint"),
    [
        (
            "[ERROR][Paddle2ONNX] Due to the unsupported operators, the conversion is aborted.",
            -6,
            "no operator nms",
            "post-processing",
        ),
        (
            "[ERROR][Paddle2ONNX] [OP: pd_op.max_pool2d_with_index] Adaptive only support static input shape.\n"
            "[ERROR][Paddle2ONNX] There are unsupported features.",
            -6,
            "max_pool2d_with_index: Adaptive only support static",
            "fixed height and width",
        ),
        (
            "Traceback\nUnboundLocalError: cannot access local variable 'onnx_model_str'",
            1,
            "ended with 1",
            "post-processing",
        ),
        ("[ERROR][Paddle2ONNX] Can not get input 'axis(dim)' value.", -6, "Can not get input", "nms"),
        ("", -11, "died of SIGSEGV", "post-processing"),
    ],
)
def test_words_become_an_error(output: str, code: int, message: str, hint: str) -> None:
    """Would break if the reason drowned in the log."""
    error = explain("export", code, output, FACTS, Path("m.json"))
    assert message in error.message
    assert hint in error.hint + error.message
    assert error.where == "m.json"


def test_a_failed_translation_is_told_apart() -> None:
    """It is Paddle that refuses the program then, not paddle2onnx."""
    error = explain("translate", 1, "ValueError: bad program", FACTS, Path("m.pdmodel"))
    assert "bad program" in error.message
    assert "translate it to PIR" in error.message


def test_an_exit_of_zero_without_a_file_counts_as_failure(tmp_path: Path) -> None:
    """paddle2onnx swallows its own exceptions."""
    out = tmp_path / "out.onnx"
    arguments = ["export", "in.json", str(out), "17"]
    assert not wrote(arguments)
    out.write_bytes(b"")
    assert not wrote(arguments)
    out.write_bytes(b"x")
    assert wrote(arguments)
