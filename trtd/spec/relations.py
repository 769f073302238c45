"""Rules over several keys: what is fine alone and wrong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trtd.spec.fields import CHANNEL_COUNT, NAME_PATTERN
from trtd.spec.section import Fault, relation

if TYPE_CHECKING:
    from trtd.spec.schema import InputShape, ModelSection, Preprocess, Spec, VerifySection


@relation("path", "registry")
def one_source(model: ModelSection) -> Iterator[Fault]:
    """A model comes from a path or from the registry."""
    if model.path is None and model.registry is None:
        yield Fault(("path",), "missing", 'add path = "../models/NAME", or registry = "NAME"')
    if model.path is not None and model.registry is not None:
        yield Fault(("registry",), "cannot stand beside path", "keep the one that you mean and remove the other")


@relation("registry", "version")
def version_of_registry(model: ModelSection) -> Iterator[Fault]:
    """Only models in the registry have versions."""
    if model.version is not None and model.registry is None:
        yield Fault(("version",), "needs registry: a path has no versions", "remove it, or name a registry model")


@relation("min", "opt", "max")
def ordered_shapes(shape: InputShape) -> Iterator[Fault]:
    """min <= opt <= max in every dimension."""
    rank = len(shape.min)
    for key, dims in (("opt", shape.opt), ("max", shape.max)):
        if len(dims) != rank:
            yield Fault((key,), f"has {_count(len(dims), 'dimension')}, but min has {rank}", "give all three alike")
    for lower, upper, small, large in (("min", "opt", shape.min, shape.opt), ("opt", "max", shape.opt, shape.max)):
        for axis, (low, high) in enumerate(zip(small, large, strict=False)):
            if low > high:
                yield Fault((upper, axis), f"is {high}, below {lower}[{axis}] = {low}", "min <= opt <= max must hold")


@relation("mean", "std", "channels")
def a_value_per_channel(preprocess: Preprocess) -> Iterator[Fault]:
    """mean and std hold one value for each channel."""
    count = CHANNEL_COUNT[preprocess.channels]
    for key, values in (("mean", preprocess.mean), ("std", preprocess.std)):
        if len(values) != count:
            need = _count(count, "value")
            yield Fault((key,), f'needs {need} for channels = "{preprocess.channels}", got {len(values)}')


@relation("metric", "labels")
def metric_with_labels(verify: VerifySection) -> Iterator[Fault]:
    """top1 compares with labels; a hook may compare with the reference instead. Labels serve nothing but a metric."""
    if verify.metric == "top1" and verify.labels is None:
        yield Fault(("metric",), "needs labels to compare with", 'add labels = "../data/labels.npy"')
    if verify.labels is not None and verify.metric is None:
        yield Fault(("labels",), "needs a metric that reads it", 'add metric = "top1"')


@relation("metric", "gates.metric", "gates.metric_drop")
def metric_gates_with_metric(verify: VerifySection) -> Iterator[Fault]:
    """A gate on a metric that nobody computes would compare nothing."""
    for key in ("metric", "metric_drop"):
        if getattr(verify.gates, key) is not None and verify.metric is None:
            hint = 'add metric = "top1" and labels to [verify]'
            yield Fault(("gates", key), "is a gate on verify.metric, which is not set", hint)


@relation("engine.precision", "calibration")
def calibration_for_int8(spec: Spec) -> Iterator[Fault]:
    """int8 needs data to calibrate on."""
    if "int8" in spec.engine.precisions and (spec.calibration is None or spec.calibration.data is None):
        hint = 'add [calibration] with data = "../data/*.png", or set engine.precision = "fp16"'
        key = ("calibration",) if spec.calibration is None else ("calibration", "data")
        yield Fault(key, "missing: int8 must be calibrated on real data", hint)


@relation("engine.precision", "calibration", "verify.data")
def data_to_judge_on(spec: Spec) -> Iterator[Fault]:
    """Without any data no gate can compare anything. (int8 without data has a fault of its own.)"""
    has_data = spec.verify.data is not None or (spec.calibration is not None and spec.calibration.data is not None)
    if "int8" not in spec.engine.precisions and not has_data:
        hint = 'add [verify] with data = "../data/*.png"'
        yield Fault(("verify", "data"), "missing: there is no data to judge the engine on", hint)


@relation("calibration.data", "verify.data")
def disjoint_data(spec: Spec) -> Iterator[Fault]:
    """An engine is not judged on what it was calibrated on."""
    if spec.calibration is not None and spec.verify.data is not None and spec.calibration.data == spec.verify.data:
        hint = "give other data, or remove verify.data: then a part of calibration.data is held out"
        yield Fault(("verify", "data"), "is the same as calibration.data", hint)


@relation("name", "engine.precision")
def engine_names_fit(spec: Spec) -> Iterator[Fault]:
    """The suffix that a list of precisions adds must still fit into a name."""
    for name in spec.engine_names.values():
        if not re.match(NAME_PATTERN, name):
            hint = f"shorten it by {len(name) - 63} or more"
            yield Fault(("name",), f'is too long: with the precision, "{name}" exceeds 63 characters', hint)
            return


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
