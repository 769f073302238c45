"""Fidelity of one output, accumulated over items so that any number of them fits in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtd.calibrate.observe import RangeObserver
from trtd.verify.error_histogram import error_histogram
from trtd.verify.report import Fidelity, OutputErrors

Array = np.ndarray[Any, Any]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class FidelityAccumulator:
    """Compares a candidate's output with the reference's, item by item, in float64.

    Values that are NaN or infinite on either side, and shapes that differ, make every metric NaN, which passes no gate.
    """

    def __init__(self) -> None:
        self._elements = 0
        self._signal = 0.0
        self._noise = 0.0
        self._cosine = math.inf
        self._max_abs_error = 0.0
        self._rows = 0
        self._rows_agreed = 0
        self._class_scores = True
        self._probabilities = True
        self._broken = False
        self._errors = RangeObserver("error")

    def update(self, reference: Array, candidate: Array) -> None:
        """Add one item; both arrays hold the same output, of any shape, leading batch dimension included."""
        if reference.shape != candidate.shape:
            self._broken = True
            return
        x, y = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            self._broken = True
            return
        difference = y - x
        noise = float(difference @ difference)
        self._elements += x.size
        self._signal += float(x @ x)
        self._noise += noise
        if x.size:
            self._cosine = min(self._cosine, _cosine(x, y) if noise else 1.0)
            self._max_abs_error = max(self._max_abs_error, float(np.abs(difference).max()))
            self._errors.update(np.clip(difference, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32))
        self._agree(reference, candidate)

    def _agree(self, reference: Array, candidate: Array) -> None:
        """Rows of (items, classes) outputs agree if their largest class is the same; ties take the first."""
        is_scores = reference.ndim == 2 and reference.shape[1] > 1 and reference.dtype.kind == "f"
        self._class_scores &= is_scores
        self._probabilities &= is_scores and bool(
            (reference >= 0).all() and np.allclose(reference.sum(1), 1, atol=0.01)
        )
        if is_scores:
            self._rows += len(reference)
            self._rows_agreed += int((reference.argmax(axis=1) == candidate.argmax(axis=1)).sum())

    def result(self) -> Fidelity:
        """The metrics so far. Nothing compared gives ``elements`` 0 and NaN."""
        if self._broken or self._elements == 0:
            nan = math.nan
            return Fidelity(
                elements=0 if not self._broken else self._elements,
                cosine=nan, sqnr_db=nan, relative_l2=nan, max_abs_error=nan,
                top1_agreement=nan if self._rows else None,
            )  # fmt: skip
        return Fidelity(
            elements=self._elements,
            cosine=self._cosine,
            sqnr_db=sqnr_db(self._signal, self._noise),
            relative_l2=math.sqrt(self._noise / self._signal) if self._signal else (math.inf if self._noise else 0.0),
            max_abs_error=self._max_abs_error,
            top1_agreement=self._rows_agreed / self._rows if self._class_scores and self._rows else None,
            probabilities=self._class_scores and self._probabilities,
        )

    def errors(self) -> OutputErrors:
        """Histogram of candidate - reference."""
        return error_histogram(self._errors.histogram()) if self._errors.values else OutputErrors(edges=(), counts=())


def _is_distribution(rows: Array) -> bool:
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=0.01))


def sqnr_db(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two energies; infinite without noise, minus infinite without signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _cosine(x: Array, y: Array) -> float:
    """Cosine similarity of two that differ; 0 if one of them is zero."""
    norms = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    return min(1.0, float(x @ y) / norms) if norms else 0.0
