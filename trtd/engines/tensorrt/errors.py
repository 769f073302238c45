"""What TensorRT says, in trtd's words. TensorRT's own source files and lines are left out: they help nobody else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trtd.errors import EngineError, EnvironmentMissing, TrtdError, WorkerOutOfMemory

_PLACE = re.compile(r"\s*\(?\bIn \S+ at \S+:\d+\)?")
_CODE = re.compile(r"^.*?Error Code \d+: ", re.DOTALL)
_NO_DRIVER = ("cudaError 35", "error: 35", "driver version is insufficient", "no CUDA-capable device", "cudaError 100")
_MEMORY = ("out of memory", "OutOfMemory", "cudaErrorMemoryAllocation", "requested amount of memory")
_FOREIGN = ("incompatible device", "expecting compute", "compute capability")
_VERSION = ("Version tag does not match", "incompatible serialization version", "engine plan file is not compatible")
_TORN = ("plan.header.size == blobSize", "magicTag", "corrupted", "Serialization assertion", "size mismatch")


def plain(message: str) -> str:
    """A message of TensorRT without its call, code and place."""
    return " ".join(_PLACE.sub("", _CODE.sub("", message)).split()).rstrip(" (.")


def parse_error(name: str, parser: Any) -> EngineError:
    """What kept the ONNX parser from reading the graph, the first node of it by name."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return EngineError(f"{name} cannot read the graph and does not say why", hint="see the build log")
    first = errors[0]
    kinds = {str(error.code()).rpartition(".")[2] for error in errors}
    node, operator = first.node_name() or "", first.node_operator() or ""
    others = f"; {len(errors) - 1} more nodes like it" if len(errors) > 1 else ""
    if kinds & {"UNSUPPORTED_NODE", "UNSUPPORTED_GRAPH"} or "plugin" in first.desc().lower():
        return EngineError(
            f"{name} has neither a kernel nor a plugin for {operator or 'an operator'}{others}",
            where=node or operator,
            hint="export the model without that operator, move it out of the model into the program around it, or use "
            'target = "onnxruntime-cpu"',
        )
    return EngineError(
        f"{name} refuses {operator or 'a node'}: {plain(first.desc())}{others}",
        where=node or operator,
        hint="the build log has TensorRT's own words; export the model with another opset, or report it with the log",
    )


def build_error(name: str, errors: Sequence[str]) -> TrtdError:
    """Why the builder gave no engine."""
    text = "\n".join(errors)
    last = plain(errors[0]) if errors else "it does not say why"
    if _has(text, _NO_DRIVER):
        return no_gpu(name)
    if _has(text, _MEMORY):
        return WorkerOutOfMemory(
            f"{name} ran out of device memory while it built: {last}",
            hint="free the GPU, lower max in [model.inputs.NAME], or set [engine.tensorrt] workspace_bytes",
        )
    if "Could not find any implementation for node" in text:
        node = re.search(r"implementation for node ([^.\s]+)", text)
        return EngineError(
            f"{name} has no kernel for a node in this precision and memory: {last}",
            where=node[1] if node else "",
            hint="raise [engine.tensorrt] workspace_bytes, or keep it in another precision: [quantization] exclude",
        )
    if "profile" in text.lower():
        return EngineError(
            f"the input shapes do not fit the network: {last}", hint="see min, opt and max in [model.inputs.NAME]"
        )
    return EngineError(f"{name} could not build the engine: {last}", hint="the build log has all that it said")


def load_error(name: str, errors: Sequence[str], where: str) -> TrtdError:
    """Why an engine file could not be loaded, though its bytes are those that were published."""
    text = "\n".join(errors)
    last = plain(errors[0]) if errors else "it does not say why"
    if _has(text, _NO_DRIVER):
        return no_gpu(name)
    if _has(text, _MEMORY):
        return WorkerOutOfMemory(f"the GPU has no memory left for the engine: {last}", where=where, hint="free the GPU")
    again = "build it here: trtd build SPEC --force"
    if _has(text, _VERSION):
        what = f"the engine was built by another version than {name}"
    elif _has(text, _FOREIGN):
        what = "the engine was built for another GPU"
    elif _has(text, _TORN):
        what = "the engine file is torn"
    else:
        what = f"{name} cannot load the engine"
    return EngineError(f"{what}: {last}", where=where, hint=again)


def no_gpu(name: str) -> EnvironmentMissing:
    return EnvironmentMissing(
        f"{name} finds no GPU that it can use",
        hint="is there an NVIDIA GPU, and a driver that is new enough? nvidia-smi shows both; in a container, start it "
        "with --gpus all",
    )


def _has(text: str, marks: Sequence[str]) -> bool:
    return any(mark in text for mark in marks)
