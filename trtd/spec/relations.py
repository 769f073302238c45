"""Rules over several keys: what is fine alone and wrong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trtd.spec.fields import CHANNEL_COUNT, NAME_PATTERN, PADDLE, TENSORRT
from trtd.spec.section import Fault, changed, relation

if TYPE_CHECKING:
    from trtd.spec.calibration import CalibrationSection, QuantizationSection
    from trtd.spec.schema import InputShape, ModelSection, Preprocess, Spec, VerifySection

NOT_CALIBRATED = "missing: int8 must be calibrated on real data"
OWN_CALIBRATION = ("method", "percentile")
"""Options of trtd's own calibration, which inside of Paddle TensorRT does."""
CALIBRATE = 'add [calibration] with data = "../data/*.png", or set engine.precision = "fp16"'


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


@relation("engine.precision", "engine.target", "calibration", "verify.data")
def data_to_judge_on(spec: Spec) -> Iterator[Fault]:
    """Without any data no gate can compare anything. int8 is told of calibration first, which holds items out."""
    section = spec.calibration
    if spec.verify.data is not None or (section is not None and section.data is not None):
        return
    int8 = "int8" in spec.engine.precisions and spec.engine.targets != ("paddle",)  # which has none, and is told so
    if int8 and (section is None or section.table is None):
        yield Fault(("calibration",) if section is None else ("calibration", "data"), NOT_CALIBRATED, CALIBRATE)
        return
    hint = 'add [verify] with data = "../data/*.png"'
    yield Fault(("verify", "data"), "missing: there is no data to judge the engine on", hint)


@relation("producer", "ptq")
def ptq_by_paddle(quantization: QuantizationSection) -> Iterator[Fault]:
    """Options of Paddle's that Paddle is not asked for would change nothing."""
    if quantization.producer != "paddle-ptq" and changed(quantization.ptq):
        yield Fault(("ptq",), "is for Paddle's own quantization", 'add producer = "paddle-ptq", or remove the section')


@relation("engine.precision", "engine.quantized_model", "quantization.producer", "calibration.data")
def one_source_of_scales(spec: Spec) -> Iterator[Fault]:
    """A quantized model to fall back on, or one that Paddle is to make: each needs int8, and they are two ways."""
    made = spec.quantization.producer == "paddle-ptq"
    named = spec.engine.quantized_model is not None
    if named and "int8" not in spec.engine.precisions:
        yield Fault(("engine", "quantized_model"), "is for int8, which is not asked for", "remove it")
    if made and "int8" not in spec.engine.precisions:
        yield Fault(("quantization", "producer"), "is for int8, which is not asked for", "remove it")
    if made and named:
        hint = 'remove it, or keep it and let trtd calibrate first: producer = "trtd"'
        yield Fault(("engine", "quantized_model"), "cannot stand beside a model that paddle-ptq makes", hint)
    if made and (spec.calibration is None or spec.calibration.data is None):
        hint = 'add [calibration] with data = "../data/*.png"'
        yield Fault(("quantization", "producer"), "is paddle-ptq, which needs data to calibrate on", hint)


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


@relation("engine.target", "quantization", "calibration.table", "calibration.method", "calibration.percentile")
def quantization_by_paddle(spec: Spec) -> Iterator[Fault]:
    """On paddle-tensorrt, TensorRT calibrates and Paddle decides what runs in INT8: our own ways do not reach there."""
    if "paddle-tensorrt" not in spec.engine.targets:
        return
    if spec.calibration is not None and set(spec.engine.targets) <= set(PADDLE):
        for key in sorted(set(OWN_CALIBRATION) & set(changed(spec.calibration))):
            hint = "remove it: inside of Paddle, TensorRT calibrates, by entropy alone"
            yield Fault(("calibration", key), "is for trtd's own calibration", hint)
    for key in ("exclude", "exclude_ops"):
        if getattr(spec.quantization, key):
            hint = "use exp_disable_tensorrt_ops in [engine.paddle]: operators by Paddle's names"
            yield Fault(("quantization", key), "names nodes of an ONNX graph, which paddle-tensorrt has not", hint)
    if spec.calibration is not None and spec.calibration.table is not None and "int8" in spec.engine.precisions:
        hint = "give data: on paddle-tensorrt, TensorRT makes its own table"
        yield Fault(
            ("calibration", "table"), "is a table of trtd's or TensorRT's network, not of Paddle's subgraphs", hint
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
