"""Task metrics: what fidelity means for the user, as a share from 0 to 1."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trtd.calibrate.items import ItemRef
from trtd.errors import DataError, UsageError
from trtd.verify.report import TaskMetric

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]
HOOKS_ALLOWED = "TRTD_ALLOW_HOOKS"
_LABEL_LINE = re.compile(r"\s*(.+?)[\s,]+(-?\d+)\s*")


class Metric(Protocol):
    """Is shown every batch, then gives the engine's and the reference's value."""

    def update(self, items: Sequence[ItemRef], engine: Outputs, reference: Outputs) -> None: ...

    def result(self) -> TaskMetric: ...


class Top1:
    """Share of items whose largest class score is the label's.

    Args:
        labels: item to class.
    """

    def __init__(self, labels: Mapping[ItemRef, int]) -> None:
        self._labels = labels
        self._items = self._engine = self._reference = 0

    def update(self, items: Sequence[ItemRef], engine: Outputs, reference: Outputs) -> None:
        name = next((n for n, a in reference.items() if a.ndim == 2 and a.shape[1] > 1), None)
        if name is None:
            raise DataError(
                'metric = "top1" needs an output of class scores, [items, classes], and the model has none',
                hint='use a hook: metric = "FILE.py:FUNCTION"',
            )
        for row, item in enumerate(items):
            label = self._labels[item]
            self._items += 1
            self._engine += int(engine[name][row].argmax() == label)
            self._reference += int(reference[name][row].argmax() == label)

    def result(self) -> TaskMetric:
        count = self._items or float("nan")
        return TaskMetric(name="top1", engine=self._engine / count, reference=self._reference / count)


class Hook:
    """A Python function of the user's: ``metric(outputs, expected) -> float``.

    ``outputs`` is a list of the engine's outputs, one dict of arrays per batch; ``expected`` is the list of labels in
    the same order if the spec gives labels, else the list of the reference's outputs.
    """

    def __init__(
        self, spec: str, folder: Path, labels: Mapping[ItemRef, int] | None, allowed: bool | None = None
    ) -> None:
        self._name = spec
        self._function = _load_hook(spec, folder, hooks_allowed() if allowed is None else allowed)
        self._labels = labels
        self._engine: list[Outputs] = []
        self._reference: list[Outputs] = []
        self._expected: list[Any] = []

    def update(self, items: Sequence[ItemRef], engine: Outputs, reference: Outputs) -> None:
        self._engine.append(engine)
        self._reference.append(reference)
        self._expected.extend([reference] if self._labels is None else [self._labels[item] for item in items])

    def result(self) -> TaskMetric:
        values = [self._call(outputs) for outputs in (self._engine, self._reference)]
        return TaskMetric(name=self._name, engine=values[0], reference=values[1])

    def _call(self, outputs: list[Outputs]) -> float:
        hint = "the function takes (outputs, expected) and returns a number from 0 to 1"
        try:
            value = float(self._function(outputs, self._expected))
        except Exception as error:
            raise DataError(
                f"the metric hook failed: {type(error).__name__}: {error}", where=self._name, hint=hint
            ) from error
        if value < 0 or value > 1:
            raise DataError(f"the metric hook returned {value}, which is no share", where=self._name, hint=hint)
        return value


def hooks_allowed() -> bool:
    """Whether the environment allows Python hooks."""
    return os.environ.get(HOOKS_ALLOWED) == "1"


def open_metric(
    spec: str, folder: Path, labels: Mapping[ItemRef, int] | None, *, hooks_allowed: bool | None = None
) -> Metric:
    """The metric that a spec names: ``top1`` or a hook ``FILE.py:FUNCTION`` relative to ``folder``.

    Args:
        hooks_allowed: whether the operator allows hooks; ``None``: as the environment says.
    """
    if spec == "top1":
        if labels is None:
            raise DataError('metric = "top1" needs labels', hint='add labels = "labels.npy" to [verify]')
        return Top1(labels)
    return Hook(spec, folder, labels, hooks_allowed)


def read_labels(path: Path, items: Sequence[ItemRef], all_items: Sequence[ItemRef]) -> dict[ItemRef, int]:
    """Integer labels of ``items``.

    ``.npy``: one integer per item of the whole data set, in its order (rows of a stack, or files sorted by name).
    Anything else: lines of ``FILE LABEL``, as PaddleClas writes them, for sets of one item a file. A file is found by
    its path or, where that is clear, by its name alone.

    Raises:
        DataError: the file is no such thing, or an item has no label.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise DataError("is an .npz by another name", where=str(path), hint="np.save the labels alone")
            if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) != len(all_items):
                raise DataError(
                    f"holds {array.dtype} {list(array.shape)}, not {len(all_items)} whole numbers, one an item",
                    where=str(path),
                    hint="np.save it as a 1-D integer array in the order of the data",
                )
            known = {item: int(label) for item, label in zip(all_items, array, strict=True)}
        else:
            known = _text_labels(path, all_items)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the labels cannot be read: {error}", where=str(path), hint="check [verify] labels") from error
    missing = [item for item in items if item not in known]
    if missing:
        raise DataError(
            f"there is no label for {missing[0]} ({len(missing)} in all)",
            where=str(path),
            hint="give a line FILE LABEL for each held-out file, or a .npy with one label for each item",
        )
    return {item: known[item] for item in items}


def _text_labels(path: Path, items: Sequence[ItemRef]) -> dict[ItemRef, int]:
    by_path: dict[str, int] = {}
    by_name: dict[str, set[int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = _LABEL_LINE.fullmatch(line)
        if match is None:
            raise DataError(f"line {number} is not FILE LABEL: {line[:80]!r}", where=str(path))
        file, label = match[1], int(match[2])
        if by_path.setdefault(file, label) != label:
            raise DataError(f"line {number} gives {file!r} a second label", where=str(path))
        by_name.setdefault(Path(file).name, set()).add(label)
    found = {}
    for item in items:
        alike = by_name.get(Path(item.file).name, set())  # of any folder: lists are often made elsewhere
        if item.row is None and (item.file in by_path or len(alike) == 1):
            found[item] = by_path.get(item.file, min(alike))
    return found


def _load_hook(spec: str, folder: Path, allowed: bool) -> Callable[[list[Outputs], list[Any]], float]:
    if not allowed:
        raise UsageError(
            f"the spec asks for a Python hook, {spec!r}, and hooks are off",
            hint=f"a hook runs with your rights; if you trust this spec: {HOOKS_ALLOWED}=1 trtd build SPEC",
        )
    file, _, name = spec.rpartition(":")
    path = (folder / file).resolve()
    module_spec = importlib.util.spec_from_file_location("trtd_metric_hook", path)
    if not path.is_file() or module_spec is None or module_spec.loader is None:
        raise DataError("there is no such hook file", where=str(path), hint="paths are relative to the spec's folder")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        function: Callable[[list[Outputs], list[Any]], float] = getattr(module, name)
    except Exception as error:
        raise DataError(f"the hook cannot be loaded: {type(error).__name__}: {error}", where=str(path)) from error
    return function
