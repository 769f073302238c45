"""TensorRT's own words, as it really said them, in trtd's."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from trtd.engines.tensorrt.errors import build_error, load_error
from trtd.engines.tensorrt.layers import parse_layers
from trtd.engines.tensorrt.log import PARTS, Kept, Phases
from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory

NAME = "tensorrt_rtx 1.6.1.120"
# As TensorRT-RTX 1.6.1 said them on an H200.
TORN = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan.header.size == "
TORN += "blobSize failed. In deserializeEngine at /_src/runtime/api/runtime.cpp:123)"
VERSION = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
VERSION += "kSERIALIZATION_VERSION failed.Version tag does not match. In deserialize at /_src/runtime/rt.cpp:150)"
DRIVER = "CUDA initialization failure with error: 35. Please check your CUDA installation"
IMPLEMENTATION = "Error Code 10: Internal Error (Could not find any implementation for node conv_1 + relu. In "
IMPLEMENTATION += "computeCosts at /_src/optimizer/common/tactic/optimizer.cpp:4115)"


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        (TORN, EngineError, "the engine file is torn"),
        (VERSION, EngineError, f"built by another version than {NAME}"),
        ("expecting compute 8.9 got compute 9.0, please rebuild", EngineError, "built for another GPU"),
        (DRIVER, EnvironmentMissing, "finds no GPU"),
        ("Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)", WorkerOutOfMemory, "no memory left"),
        ("Error Code 4: something new", EngineError, "cannot load the engine: something new"),
        ("", EngineError, "does not say why"),
    ],
)
def test_why_an_engine_does_not_load(message: str, kind: type[TrtdError], said: str) -> None:
    error = load_error(NAME, [message] if message else [], "/registry/model.plan")
    assert type(error) is kind
    assert said in error.message
    assert error.hint
    assert ".cpp" not in error.message


@pytest.mark.parametrize(
    ("message", "kind", "said", "where"),
    [
        (IMPLEMENTATION, EngineError, "no kernel for a node in this precision", "conv_1"),
        (DRIVER, EnvironmentMissing, "finds no GPU", ""),
        ("Error Code 2: OutOfMemory (no further information)", WorkerOutOfMemory, "ran out of device memory", ""),
        (
            "Error Code 4: Internal Error (x: optimization profile is missing)",
            EngineError,
            "do not fit the network",
            "",
        ),
        ("Error Code 9: something new", EngineError, "could not build the engine: something new", ""),
    ],
)
def test_why_a_build_gave_nothing(message: str, kind: type[TrtdError], said: str, where: str) -> None:
    error = build_error(NAME, [message])
    assert type(error) is kind
    assert said in error.message
    assert error.where == where
    assert ".cpp" not in error.message


def test_the_last_error_is_the_last_one_even_if_it_came_before() -> None:
    kept = Kept()
    for message in ("file.cpp:12: first", "second", "file.cpp:99: first"):
        kept.add("errors", message)
    assert kept.errors == ["second", "first"]


def test_phases_of_several_threads_are_told_one_after_another() -> None:
    """An exception inside of TensorRT's callback ends a build of an hour."""
    phases = Phases(lambda done, total, what: None)
    phases.start("build", None, 4)

    def work(thread: int) -> None:
        for number in range(300):
            name = f"{thread}.{number}"
            phases.start(name, "build", 2)
            phases.step(name, 0)
            phases.finish(name)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))  # raises what a thread raised
    finally:
        sys.setswitchinterval(interval_s)


def test_nested_phases_are_one_number_that_never_falls() -> None:
    """TensorRT starts phases inside of steps, and some side by side; a bar that jumps back tells nobody anything."""
    heard: list[int] = []
    phases = Phases(lambda done, total, what: heard.append(done))
    phases.start("build", None, 2)
    phases.start("graph", "build", 4)
    for step in range(4):
        phases.step("graph", step)
    phases.finish("graph")
    phases.step("build", 0)
    assert heard[-1] == PARTS // 2
    phases.start("tactics", "build", 10)
    phases.start("more tactics", "build", 10)
    phases.step("tactics", 4)
    phases.step("more tactics", 1)
    assert heard[-1] == PARTS * 3 // 4  # half, and half of the way to the next step
    phases.step("unknown", 3)
    phases.step("tactics", 40)
    phases.finish("tactics")
    phases.step("build", 1)
    assert heard[-1] == PARTS
    assert heard == sorted(heard)


def layer(name: str, types: list[str], nodes: list[str], key: str = "Format/Datatype") -> dict[str, object]:
    metadata = "\u001e".join(f"[ONNX Layer: {node}]" for node in nodes)
    inputs = [{"Name": "t", "Dimensions": [8, 64], key: kind} for kind in types]
    return {"Name": name, "LayerType": "gemm", "Inputs": inputs, "Outputs": [], "Metadata": metadata}


def test_quantized_operators_that_do_not_run_in_8_bits_are_found() -> None:
    """The field's commonest complaint: an engine that was built as INT8 and silently runs FP16."""
    described = [
        layer("one", ["Int8", "Int8"], ["a", "a.bias"], "Datatype"),
        layer("two", ["Half NHWC8", "Half NHWC8"], ["b"]),
        layer("three", ["FP8 row major", "FP8"], ["c", "c"]),
        layer("shapes", [], []),
        "a layer by name alone",
    ]
    found = parse_layers(json.dumps({"Layers": described}), ["a", "b", "c", "d"], {"one": 0.25})
    assert [(found_layer.name, found_layer.precision) for found_layer in found.layers] == [
        ("one", "int8"),
        ("two", "fp16"),
        ("three", "fp8"),
        ("shapes", ""),
        ("a layer by name alone", ""),
    ]
    assert found.layers[0].time_ms == 0.25
    assert found.layers[2].nodes == ("c",)
    assert (found.quantizable, found.not_in_8_bits) == (4, ("b", "d"))
