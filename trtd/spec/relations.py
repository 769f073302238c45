"""Rules over several keys: what is fine alone and wrong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trtd.spec.fields import CHANNEL_COUNT, NAME_PATTERN, TENSORRT
from trtd.spec.section import Fault, Section, relation

if TYPE_CHECKING:
    from trtd.spec.calibration import CalibrationSection
    from trtd.spec.engine import EngineSection
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


@relation("data", "table")
def data_or_table(calibration: CalibrationSection) -> Iterator[Fault]:
    """Ranges come from data or from a table; whoever gives both expects something else of one of them."""
    if calibration.data is not None and calibration.table is not None:
        hint = "keep the one that you mean; data to judge on is [verify] data"
        yield Fault(("table",), "cannot stand beside data", hint)


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
    """int8 needs data to calibrate on, or a table of who did."""
    section = spec.calibration
    if "int8" in spec.engine.precisions and (section is None or (section.data or section.table) is None):
        hint = 'add [calibration] with data = "../data/*.png", or set engine.precision = "fp16"'
        key = ("calibration",) if spec.calibration is None else ("calibration", "data")
        yield Fault(key, "missing: int8 must be calibrated on real data", hint)


@relation("engine.precision", "calibration", "verify.data")
def data_to_judge_on(spec: Spec) -> Iterator[Fault]:
    """Without any data no gate can compare anything. (int8 without data or table has a fault of its own.)"""
    has_data = spec.verify.data is not None or (spec.calibration is not None and spec.calibration.data is not None)
    has_table = spec.calibration is not None and spec.calibration.table is not None
    if ("int8" not in spec.engine.precisions or has_table) and not has_data:
        hint = 'add [verify] with data = "../data/*.png"'
        yield Fault(("verify", "data"), "missing: there is no data to judge the engine on", hint)


@relation("calibration.data", "verify.data")
def disjoint_data(spec: Spec) -> Iterator[Fault]:
    """An engine is not judged on what it was calibrated on."""
    if spec.calibration is not None and spec.verify.data is not None and spec.calibration.data == spec.verify.data:
        hint = "give other data, or remove verify.data: then a part of calibration.data is held out"
        yield Fault(("verify", "data"), "is the same as calibration.data", hint)


@relation("name", "engine.precision", "engine.target")
def engine_names_fit(spec: Spec) -> Iterator[Fault]:
    """The suffixes that lists of targets and precisions add must still fit into a name."""
    for name in (name for one in spec.per_target() for name in one.engine_names.values()):
        if not re.match(NAME_PATTERN, name):
            hint = f"shorten it by {len(name) - 63} or more"
            yield Fault(("name",), f'is too long: with target and precision, "{name}" exceeds 63 characters', hint)
            return


@relation("target", "compute_capabilities")
def capabilities_of_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """Other backends do not build for a compute capability; and each is built once."""
    given = engine.compute_capabilities
    if given and not set(engine.targets) & set(TENSORRT):
        hint = 'remove it, or set target = "tensorrt-rtx"'
        yield Fault(("compute_capabilities",), f"is for targets {', '.join(TENSORRT)}", hint)
    if len(set(given)) < len(given):
        yield Fault(("compute_capabilities",), "names a capability twice", "remove what stands twice")


@relation("target", "tensorrt")
def options_of_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """Options that nothing reads would change nothing, and nobody would notice."""
    if _changed(engine.tensorrt) and not set(engine.targets) & set(TENSORRT):
        hint = 'remove the section, or set target = "tensorrt"'
        yield Fault(("tensorrt",), f"is for targets {', '.join(TENSORRT)}", hint)


@relation("target", "tensorrt")
def options_of_full_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """TensorRT-RTX times no kernels, its engines run on other GPUs of a named capability, and FP32 is always TF32."""
    for key in ("timing_cache", "version_compatible", "hardware_compatibility", "tf32"):
        if key in _changed(engine.tensorrt) and "tensorrt" not in engine.targets:
            hint = 'remove it, or set target = "tensorrt"'
            yield Fault(("tensorrt", key), "is for target tensorrt alone", hint)


@relation("engine.target", "quantization.activation")
def symmetric_for_tensorrt(spec: Spec) -> Iterator[Fault]:
    """TensorRT has no zero points."""
    if spec.quantization.activation == "uint8" and set(spec.engine.targets) & set(TENSORRT):
        hint = 'use "auto", which takes what serves each target'
        yield Fault(("quantization", "activation"), "is uint8, and TensorRT quantizes symmetrically, to int8", hint)


@relation("engine.target", "quantization.float_precision")
def fp16_beside_int8(spec: Spec) -> Iterator[Fault]:
    """On a CPU, FP16 costs casts and gains nothing."""
    if spec.quantization.float_precision == "fp16" and not set(spec.engine.targets) <= set(TENSORRT):
        hint = 'use "auto", which is fp16 on GPUs'
        yield Fault(("quantization", "float_precision"), "is fp16, and onnxruntime-cpu computes it as FP32", hint)


def _changed(section: Section) -> list[str]:
    """Keys with another value than the default: what was written, and counts."""
    return [key for key, field in type(section).model_fields.items() if getattr(section, key) != field.default]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
