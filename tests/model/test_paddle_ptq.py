"""Quantized models made by Paddle itself, from batches of feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model.quantized_program import small
from tests.quantized.models import Array, Imported
from trtd.errors import ConversionError, DataError, QuantizationError, TrtdError
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.paddle_ptq import PtqOptions, produce_ptq
from trtd.model.source import ModelSource

FEEDS: dict[str, Array] = {
    "image": np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype("float32"),
    "tokens": np.random.default_rng(1).standard_normal((1, 6, 8)).astype("float32"),
}


def _produce(source: ModelSource, out: Path, feeds: Any, log: list[str], **options: Any) -> list[tuple[int, int]]:
    steps: list[tuple[int, int]] = []
    produce_ptq(source, feeds, out, PtqOptions(**options), log.append, lambda done, total: steps.append((done, total)))
    return steps


def _nothing(out: Path) -> bool:
    return not out.exists() or not list(out.iterdir())


def test_one_pass_of_batches_makes_a_quantized_model(quantized_programs: Path, tmp_path: Path) -> None:
    """From an iterator that can be read once, with progress to watch, and nothing beside the two files."""
    asked = []

    def feeds() -> Iterator[dict[str, Array]]:
        for number in range(2):
            asked.append(number)
            yield FEEDS

    log: list[str] = []
    steps = _produce(locate(quantized_programs / "float"), tmp_path / "out", feeds(), log, algorithm="abs_max")
    assert asked == [0, 1]
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["inference.pdiparams", "inference.pdmodel"]
    facts = read_facts(locate(tmp_path / "out"))
    assert facts.quantized
    assert facts.ops["quantize_linear"] > 10
    assert facts.inputs == read_facts(locate(quantized_programs / "float")).inputs
    assert not any("it/s]" in line or "|=" in line for line in log)


def test_what_is_skipped_stays_float_and_two_passes_are_announced(imported: Callable[[str], Imported]) -> None:
    """The list of names must reach Paddle, which ignores names that it does not know."""
    weights = {weight.parameter for weight in imported("calibrated").quantization.weights}
    assert "linear_6.w_0" not in weights
    assert "linear_5.w_0" in weights


@pytest.mark.parametrize(
    ("feeds", "error", "says"),
    [
        ([], DataError, "no calibration batches"),
        ([FEEDS, {"image": FEEDS["image"]}], DataError, "batch 2: input 'tokens' is missing; there are image"),
        ([FEEDS | {"image": FEEDS["tokens"]}], DataError, r"float32\[1, 6, 8\], must be float32\['\?', 3, 16, 16\]"),
        ([FEEDS | {"tokens": FEEDS["tokens"].astype("float64")}], DataError, "float64"),
        ([FEEDS | {"tokens": FEEDS["tokens"] * np.nan}], DataError, "holds NaN"),
    ],
)
def test_batches_that_do_not_fit_are_counted(
    feeds: list[dict[str, Array]], error: type[TrtdError], says: str, quantized_programs: Path, tmp_path: Path
) -> None:
    """Paddle would run for minutes and then name neither batch nor input."""
    with pytest.raises(error, match=says):
        _produce(locate(quantized_programs / "float"), tmp_path / "out", iter(feeds), [])
    assert _nothing(tmp_path / "out")


def test_a_misspelt_name_to_skip_is_refused(quantized_programs: Path, tmp_path: Path) -> None:
    """Paddle ignores it, and the exclusion would do nothing in silence."""
    with pytest.raises(QuantizationError, match=r"no variable 'conv2d_0\.w_O'") as caught:
        _produce(locate(quantized_programs / "float"), tmp_path / "out", [FEEDS], [], skip=("conv2d_0.w_O",))
    assert "conv2d_0.w_0" in caught.value.hint
    assert _nothing(tmp_path / "out")


def test_what_paddle_cannot_quantize_is_refused_before_it_tries(quantized_programs: Path, tmp_path: Path) -> None:
    """A PIR model fails in an assertion; one that is quantized already would be quantized twice."""
    with pytest.raises(ConversionError, match=r"\.pdmodel") as caught:
        _produce(small().write(tmp_path / "pir"), tmp_path / "out", [FEEDS], [])
    assert "FLAGS_enable_pir_api=0" in caught.value.hint
    with pytest.raises(ConversionError, match="already"):
        _produce(locate(quantized_programs / "calibrated"), tmp_path / "out", [FEEDS], [])
    assert _nothing(tmp_path / "out")


def test_a_failure_of_paddle_is_told_in_its_words(quantized_programs: Path, tmp_path: Path) -> None:
    """Sizes that the network itself refuses are found out by running it only."""
    with pytest.raises(QuantizationError, match=r"quantization failed: .*Error") as caught:
        _produce(
            locate(quantized_programs / "float"),
            tmp_path / "out",
            [FEEDS | {"tokens": np.ones((0, 6, 8), "float32")}],
            [],
        )
    assert caught.value.hint
    assert _nothing(tmp_path / "out")
