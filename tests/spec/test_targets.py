"""Specs for TensorRT: several targets at once, capabilities and options, and what would change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trtd.spec.load import spec_from_text
from trtd.spec.schema import Spec
from trtd.spec.section import changed

Faults = Callable[..., list[str]]

MODEL = 'model.path = "m"\nverify.data = "v"\n'
INT8 = 'model.path = "m"\ncalibration.data = "c"\n'


def spec(text: str) -> Spec:
    return spec_from_text(text, file="det.toml", stem="det")


def test_a_list_of_targets_is_one_spec_for_each() -> None:
    """Each is a subject of its own, with a name that no other takes."""
    both = spec(f'{INT8}engine.target = ["onnxruntime-cpu", "tensorrt-rtx"]\nengine.precision = ["fp16", "int8"]\n')
    parts = both.per_target()
    assert [part.engine.only_target for part in parts] == ["onnxruntime-cpu", "tensorrt-rtx"]
    assert [name for part in parts for name in part.engine_names.values()] == [
        "det-onnxruntime-cpu-fp16",
        "det-onnxruntime-cpu-int8",
        "det-tensorrt-rtx-fp16",
        "det-tensorrt-rtx-int8",
    ]


EVERY_TARGET = f"""{INT8}
[calibration]
method = "percentile"
percentile = 99.9
[engine]
target = ["onnxruntime-cpu", "tensorrt", "tensorrt-rtx", "paddle", "paddle-tensorrt"]
precision = "fp16"
compute_capabilities = ["8.6"]
[engine.tensorrt]
tf32 = true
version_compatible = true
aux_streams = 2
[engine.paddle]
memory_pool_init_size_mb = 100
convert_to_mixed_precision = true
use_static = true
""".replace('calibration.data = "c"\n\n[calibration]', '[calibration]\ndata = "c"')


def test_each_target_is_told_only_what_it_reads() -> None:
    """A part would be refused when the record of its engine is read, or be judged by another target's options."""
    parts = {part.engine.only_target: part for part in spec(EVERY_TARGET).per_target()}
    for part in parts.values():
        assert Spec.model_validate(part.model_dump(mode="json")) == part
    told = {
        target: (sorted(changed(part.engine.tensorrt)), sorted(changed(part.engine.paddle)))
        for target, part in parts.items()
    }
    assert told == {
        "onnxruntime-cpu": ([], []),
        "tensorrt": (["aux_streams", "tf32", "version_compatible"], []),
        "tensorrt-rtx": (["aux_streams"], []),
        "paddle": ([], ["convert_to_mixed_precision", "memory_pool_init_size_mb"]),
        "paddle-tensorrt": ([], ["memory_pool_init_size_mb", "use_static"]),
    }
    assert [target for target, part in parts.items() if part.engine.compute_capabilities] == [
        "tensorrt",
        "tensorrt-rtx",
    ]
    methods = {target: part.calibration.method for target, part in parts.items() if part.calibration}
    assert [target for target, method in methods.items() if method != "percentile"] == ["paddle", "paddle-tensorrt"]


def test_one_target_keeps_the_name() -> None:
    (only,) = spec(f'{INT8}engine.target = "tensorrt"\n').per_target()
    assert list(only.engine_names.values()) == ["det"]
    (listed,) = spec(f'{INT8}engine.target = ["tensorrt"]\n').per_target()
    assert list(listed.engine_names.values()) == ["det-tensorrt"]


@pytest.mark.parametrize(
    ("lines", "key", "fragment"),
    [
        ('engine.target = ["tensorrt", "tensorrt"]', "engine.target", "must name each target once"),
        ("engine.target = []", "engine.target", "got []"),
        (
            'engine.compute_capabilities = ["8.6"]',
            "engine.compute_capabilities",
            "is for targets tensorrt, tensorrt-rtx",
        ),
        (
            'engine.target = "tensorrt-rtx"\nengine.compute_capabilities = ["8.6", "8.6"]',
            "engine.compute_capabilities",
            "names a capability twice",
        ),
        ("engine.tensorrt.aux_streams = 2", "engine.tensorrt", "is for targets tensorrt, tensorrt-rtx"),
        (
            'engine.target = "tensorrt-rtx"\nengine.tensorrt.tf32 = true',
            "engine.tensorrt.tf32",
            "is for target tensorrt",
        ),
        (
            'engine.target = "tensorrt-rtx"\nengine.tensorrt.timing_cache = "a"',
            "engine.tensorrt.timing_cache",
            "is for target tensorrt alone",
        ),
        (
            'engine.target = "tensorrt"\nengine.tensorrt.workspace_bytes = 0',
            "engine.tensorrt.workspace_bytes",
            "or more",
        ),
        ('engine.target = "tensorrt"\nengine.tensorrt.optimization_level = 6', "engine.tensorrt", "5 or less"),
        (
            'engine.target = "tensorrt"\nquantization.activation = "uint8"',
            "quantization.activation",
            "TensorRT quantizes symmetrically",
        ),
        (
            'quantization.float_precision = "fp16"',
            "quantization.float_precision",
            "onnxruntime-cpu computes it as FP32",
        ),
        ("quantization.ptq.algorithm = 'KL'", "quantization.ptq", "is for Paddle's own quantization"),
        ("quantization.producer = 'paddle'", "quantization.producer", "paddle-ptq"),
        (
            "quantization.producer = 'paddle-ptq'\nengine.quantized_model = 'q'",
            "engine.quantized_model",
            "cannot stand beside a model that paddle-ptq makes",
        ),
        ("engine.quantized_model = 'q'\nengine.precision = 'fp16'", "engine.quantized_model", "is for int8"),
        ('engine.target = "tensorrt"\nverify.repeats = 0', "verify.repeats", "1 or more"),
        ("engine.paddle.use_static = true", "engine.paddle", "is for targets paddle, paddle-tensorrt"),
        ('engine.target = "paddle"', "engine.precision", "has int8, which target paddle has not"),
        (
            'engine.target = "paddle"\nengine.precision = "fp16"\nengine.paddle.use_static = true',
            "engine.paddle.use_static",
            "is for target paddle-tensorrt",
        ),
        (
            'engine.target = "paddle-tensorrt"\nengine.paddle.convert_to_mixed_precision = true',
            "engine.paddle.convert_to_mixed_precision",
            "is for fp16 and bf16 of target paddle",
        ),
        (
            'engine.target = "paddle-tensorrt"\nengine.precision = "fp16"\nengine.paddle.use_calib_mode = true',
            "engine.paddle.use_calib_mode",
            "is for int8, which is not asked for",
        ),
        (
            'engine.target = "paddle-tensorrt"\nquantization.exclude = ["Conv.0"]',
            "quantization.exclude",
            "names nodes of an ONNX graph",
        ),
        (
            'engine.target = "paddle-tensorrt"\ncalibration.method = "entropy"',
            "calibration.method",
            "is for trtd's own calibration",
        ),
    ],
)
def test_refused(lines: str, key: str, fragment: str, faults: Faults) -> None:
    """Options that nothing reads would change nothing, and nobody would notice."""
    (found,) = faults(f"{INT8}{lines}\n")
    assert f"{key}" in found
    assert fragment in found


def test_a_table_takes_the_place_of_calibration_data(faults: Faults) -> None:
    """Who brings the ranges of an old cache may have no images any more, but needs some to be judged on."""
    table = 'model.path = "m"\ncalibration.table = "det.calibration.json"\n'
    assert faults(f'{table}verify.data = "v"\n') == []
    (found,) = faults(table)
    assert "there is no data to judge the engine on" in found
    (found,) = faults(f'{table}calibration.data = "c"\n')
    assert "cannot stand beside data" in found


def test_a_method_that_one_of_the_targets_reads_passes(faults: Faults) -> None:
    """On paddle-tensorrt TensorRT has its own; beside it stands a target that asks."""
    both = 'engine.target = ["onnxruntime-cpu", "paddle-tensorrt"]\ncalibration.method = "entropy"\n'
    assert faults(f"{INT8}{both}") == []


def test_options_that_the_target_reads_pass(faults: Faults) -> None:
    lines = 'timing_cache = "t.cache"\ntf32 = true\nversion_compatible = true\nhardware_compatibility = "ampere-plus"\n'
    lines += "workspace_bytes = 1073741824\noptimization_level = 5\nsparse_weights = true\naux_streams = 0\n"
    assert faults(f'{MODEL}[engine]\ntarget = "tensorrt"\nprecision = "fp16"\n[engine.tensorrt]\n{lines}') == []
