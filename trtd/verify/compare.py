"""Running an engine and FP32 over the held-out items and holding both against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtd.calibrate.items import Batch
from trtd.engines.protocol import Arrays, Runner
from trtd.errors import ConversionError
from trtd.verify.metrics import FidelityAccumulator
from trtd.verify.report import Fidelity, OutputErrors, TensorError

Array = np.ndarray[Any, Any]
Observer = Callable[[dict[str, Array], dict[str, Array]], None]


@dataclass
class Comparison:
    """Per output: engine against reference, FP32 graph against reference, distribution of the engine's errors."""

    items: int = 0
    engine: dict[str, FidelityAccumulator] = field(default_factory=dict)
    fp32: dict[str, FidelityAccumulator] = field(default_factory=dict)

    def fidelity(self) -> dict[str, Fidelity]:
        return {name: a.result() for name, a in self.engine.items()}

    def conversion(self) -> dict[str, Fidelity]:
        return {name: a.result() for name, a in self.fp32.items()}

    def errors(self) -> dict[str, OutputErrors]:
        return {name: a.errors() for name, a in self.engine.items()}


def compare(
    engine: Runner,
    fp32: Runner,
    batches: Iterable[Batch],
    references: Callable[[int], Sequence[Array]],
    *,
    observe: Observer = lambda engine_outputs, reference_outputs: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Run every batch through both and accumulate fidelity.

    Args:
        references: outputs of the original model for batch number n, in the model's order.
        observe: is shown each batch's outputs of the engine and of the reference, by name.
    """
    names = [o.name for o in engine.outputs]
    comparison = Comparison(
        engine={n: FidelityAccumulator() for n in names}, fp32={n: FidelityAccumulator() for n in names}
    )
    for number, batch in enumerate(batches):
        expected = references(number)
        if len(expected) != len(names):
            raise ConversionError(
                f"the original model has {len(expected)} outputs, the converted one {len(names)} ({', '.join(names)})",
                hint="export the model again with its outputs only",
            )
        reference = dict(zip(names, expected, strict=True))
        engine_outputs, fp32_outputs = engine.run(batch.feeds), fp32.run(batch.feeds)
        for name in names:
            _update(comparison.engine[name], reference[name], engine_outputs[name], batch)
            _update(comparison.fp32[name], reference[name], fp32_outputs[name], batch)
        observe(engine_outputs, reference)
        comparison.items += len(batch.items)
        progress(comparison.items)
    return comparison


def _update(accumulator: FidelityAccumulator, reference: Array, candidate: Array, batch: Batch) -> None:
    """Item by item where the output has as many rows as were fed, so that no item hides behind the others of its batch.

    A model of fixed batch size has rows beyond the items: repeats that filled the batch up, which do not count. An
    output of any other number of rows, such as boxes found, is compared as a whole.
    """
    rows = next((len(array) for array in batch.feeds.values() if array.ndim), 1)
    if rows > 1 and reference.shape == candidate.shape and reference.ndim and len(reference) == rows:
        for row in range(len(batch.items)):
            accumulator.update(reference[row : row + 1], candidate[row : row + 1])
    else:
        accumulator.update(reference, candidate)


def tensor_errors(
    engine: Runner,
    fp32: Runner,
    batches: Iterable[Arrays],
    tensors: Mapping[str, str],
    producers: Mapping[str, tuple[str, str]],
) -> tuple[TensorError, ...]:
    """How far inner tensors of the engine are from the FP32 graph's, the largest error first.

    Args:
        engine, fp32: with inner tensors as outputs (:func:`trtd.quantize.tap.tap`).
        tensors: name in the FP32 graph to name in the engine.
        producers: name in the FP32 graph to (node, operator type).
    """
    accumulators = {name: FidelityAccumulator() for name in tensors}
    for feeds in batches:
        found, expected = engine.run(feeds), fp32.run(feeds)
        for name, other in tensors.items():
            accumulators[name].update(expected[name], found[other])
    errors = [
        TensorError(tensor=name, node=producers[name][0], op=producers[name][1], sqnr_db=a.result().sqnr_db)
        for name, a in accumulators.items()
    ]
    return tuple(sorted(errors, key=lambda e: (not np.isnan(e.sqnr_db), e.sqnr_db)))
