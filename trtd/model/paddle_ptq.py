"""Make a quantized Paddle model from a float one: Paddle's own post-training quantization, on CPU."""

from __future__ import annotations

import json
import re
import signal
import tempfile
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trtd.document import Document
from trtd.errors import ConversionError, DataError, ModelError, QuantizationError
from trtd.model.convert_open import require_importable
from trtd.model.facts import TensorFacts
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.paddle_child import Log, run_step
from trtd.model.source import ModelSource

Feeds = Iterable[Mapping[str, np.ndarray[Any, Any]]]
Progress = Callable[[int, int], None]

# Paddle's min_max writes no scales into the program, and its ptf clips negative values away: both are left out.
Algorithm = Literal["abs_max", "avg", "hist", "mse", "emd", "KL"]

_BARS = re.compile(r"^(Preparation stage|Sampling stage|Adding quant|Adding )[^|]*:\|")
_STEM = "inference"


class PtqOptions(Document):
    """How Paddle quantizes, by Paddle's names (``paddle.static.quantization.PostTrainingQuantization``).

    Attributes:
        algorithm: how the range of an activation is found. ``abs_max``: the largest magnitude of all batches; ``avg``:
            the mean of the largest magnitudes of all items; ``hist``: the quantile ``hist_percent`` of magnitudes;
            ``KL``: by Kullback-Leibler divergence; ``mse``, ``emd``: the range with the least error of all batches.
        hist_percent: share of the magnitudes that ``hist`` keeps, 0 to 1.
        skip: names of variables of the program; what reads one of them stays float.
    """

    algorithm: Algorithm = "hist"
    hist_percent: float = 0.99999
    skip: tuple[str, ...] = ()


def produce_ptq(
    source: ModelSource, feeds: Feeds, out: Path, options: PtqOptions, log: Log, progress: Progress
) -> ModelSource:
    """Quantize ``source``, a ``.pdmodel``, and write ``inference.pdmodel`` and ``.pdiparams`` to the folder ``out``.

    Weights get one symmetric scale per output channel, activations one per tensor, by Paddle's defaults; every other
    tensor's range is recorded. Operators that Paddle 3.3 quantizes wrongly stay float, and the log names them.

    Args:
        source: a float Paddle program. PIR (``.json``) is refused: Paddle quantizes no such program.
        feeds: calibration batches, each a dict of inputs by name; iterated once, and kept on disk meanwhile.
        out: made if it is missing; nothing is left in it if this fails.
        progress: called with batches done and to be done; Paddle makes two passes for ``hist`` and ``KL``.

    Raises:
        ConversionError: ``source`` is no float ``.pdmodel``.
        DataError: there are no feeds, or one does not fit the inputs.
        QuantizationError: ``options`` name what the program has not, nothing can be quantized, or Paddle failed.
        EnvironmentMissing: paddle is not installed.
    """
    facts = read_facts(source)
    if source.format != "paddle-program" or source.params_file is None:
        raise ConversionError(
            "Paddle's post-training quantization reads .pdmodel programs with parameters, and no others",
            hint="Export the model with FLAGS_enable_pir_api=0 in the environment, or let trtd calibrate it itself.",
            where=str(source.model_file),
        )
    if facts.quantized:
        raise ConversionError(
            "the model is quantized already", hint="Build from it as it is.", where=str(source.model_file)
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".quantizing-") as name:
        work = Path(name)
        (work / "feeds").mkdir()
        _keep(feeds, facts.inputs, work / "feeds")
        stem = work / _STEM
        files = (str(source.model_file), str(source.params_file), str(work / "feeds"), str(stem))
        hear = _Listener(log, progress)
        code, output = run_step(
            ["quantize", *files, options.model_dump_json()], hear.line, {"FLAGS_enable_pir_api": "0"}
        )
        if code != 0 or not stem.with_suffix(".pdmodel").exists():
            raise _failure(hear, code, output, source.model_file)
        _check(stem.with_suffix(".pdmodel"), source.model_file)
        for suffix in (".pdiparams", ".pdmodel"):  # the program last: it is what makes the folder a model
            stem.with_suffix(suffix).replace(out / f"{_STEM}{suffix}")
    return locate(out / f"{_STEM}.pdmodel")


class _Listener:
    """Takes the child's lines apart: what is meant for us, what is for the log, and Paddle's progress bars."""

    def __init__(self, log: Log, progress: Progress) -> None:
        self._log, self._progress = log, progress
        self.unknown: tuple[list[str], list[str]] | None = None  # names to skip that are none, and all names
        self.nothing = False

    def line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "trtd:progress":
                done, total = map(int, rest.split())
                self._progress(done, total)
            case "trtd:skipped":
                self._log(f"{rest} stays float: Paddle 3.3 would quantize it wrongly (transposed, or of a conv1d)")
            case "trtd:unknown":
                self.unknown = json.loads(rest)
            case "trtd:nothing":
                self.nothing = True
            case _ if not _BARS.match(line):
                self._log(line)


def _keep(feeds: Feeds, inputs: Iterable[TensorFacts], folder: Path) -> None:
    """Write each batch to a file of its own, as the child may need them twice."""
    count = 0
    for count, batch in enumerate(feeds, start=1):
        for tensor in inputs:
            if (fault := _misfit(batch, tensor)) is not None:
                raise DataError(f"calibration batch {count}: input '{tensor.name}' {fault}", hint="Check the data.")
        arrays: dict[str, Any] = {tensor.name: batch[tensor.name] for tensor in inputs}
        np.savez(folder / f"{count:06d}.npz", **arrays)
    if not count:
        raise DataError("there are no calibration batches", hint="Give real inputs, some hundred.")


def _misfit(batch: Mapping[str, np.ndarray[Any, Any]], tensor: TensorFacts) -> str | None:
    array = batch.get(tensor.name)
    if array is None:
        return f"is missing; there are {', '.join(batch) or 'none'}"
    wanted = f"{tensor.dtype}{['?' if dim is None else dim for dim in tensor.shape]}"
    dims = len(array.shape) == len(tensor.shape) and all(
        w in (None, d) for w, d in zip(tensor.shape, array.shape, strict=True)
    )
    if str(array.dtype) != tensor.dtype or not dims:
        return f"is {array.dtype}{list(array.shape)}, must be {wanted}"
    return None if np.isfinite(array).all() else "holds NaN or infinity"


def _failure(hear: _Listener, code: int, output: str, where: Path) -> QuantizationError:
    if hear.unknown is not None:
        unknown, names = hear.unknown
        near = get_close_matches(unknown[0], names, n=1)
        return QuantizationError(
            f"the program has no variable '{unknown[0]}' to skip",
            hint=f"did you mean '{near[0]}'?" if near else "skip takes names of Paddle's variables, as conv2d_0.w_0",
            where=str(where),
        )
    if hear.nothing:
        return QuantizationError(
            "the program has no operator that Paddle quantizes",
            hint="It quantizes conv2d, depthwise_conv2d, conv2d_transpose, mul, matmul and matmul_v2.",
            where=str(where),
        )
    raised = [line.strip() for line in output.splitlines() if re.match(r"\s*(\w+Error|\w+Exception)\b", line)]
    died = f"its process died of {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
    return QuantizationError(
        f"Paddle's post-training quantization failed: {raised[-1] if raised else died}",
        hint="The log has all that Paddle said. Another algorithm may do; or let trtd calibrate the model itself.",
        where=str(where),
    )


def _check(model_file: Path, where: Path) -> None:
    """What Paddle wrote must be readable and quantized: its passes can leave out what they do not know."""
    try:
        facts = read_facts(locate(model_file))
        require_importable(facts)
    except (ModelError, ConversionError) as error:
        raise QuantizationError(
            f"Paddle wrote a quantized model that is not right: {error.message}",
            hint="Leave the operator that reads it in float: name its variable in skip.",
            where=str(where),
        ) from error
