"""``config.pbtxt``: how Triton Inference Server is told about an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtd.errors import RegistryError
from trtd.model.facts import TensorFacts

_FIRST_PRINTABLE, _LAST_PRINTABLE = 0x20, 0x7E


@dataclass(frozen=True)
class TritonBackend:
    """Triton's name of a backend, the file that is loaded from a version's folder, and where it runs.

    Attributes:
        names_model: Triton is told the file; else its backend knows what to look for.
    """

    backend: str
    model_file: str
    instances: str
    names_model: bool = True


# By the target's backend, as in a spec's engine.target. Triton ships no backend for TensorRT-RTX: who serves such
# engines with one of their own calls it tensorrt_rtx; trtd.load needs none.
TRITON_BACKENDS = {
    "onnxruntime-cpu": TritonBackend("onnxruntime", "model.onnx", "KIND_CPU"),
    "tensorrt": TritonBackend("tensorrt", "model.plan", "KIND_GPU"),
    "tensorrt-rtx": TritonBackend("tensorrt_rtx", "model.plan", "KIND_GPU"),
    "paddle": TritonBackend("paddle", "engine.json", "KIND_AUTO", names_model=False),
    "paddle-tensorrt": TritonBackend("paddle", "engine.json", "KIND_GPU", names_model=False),
}

# By numpy's name; the names on the right are those of Triton's DataType.
_TRITON_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "str": "TYPE_STRING",
    "object": "TYPE_STRING",
}


def triton_backend(backend: str) -> TritonBackend:
    """What Triton calls a target's backend. Raises ``RegistryError`` for one that Triton does not serve here."""
    if backend not in TRITON_BACKENDS:
        known = ", ".join(TRITON_BACKENDS)
        raise RegistryError(f"no Triton configuration is known for the target {backend!r}", hint=f"known are: {known}")
    return TRITON_BACKENDS[backend]


def config_pbtxt(
    name: str,
    backend: str,
    inputs: Sequence[TensorFacts],
    outputs: Sequence[TensorFacts],
    max_batch_size: int,
    variants: Mapping[str, str] | None = None,
    accelerators: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The text of ``config.pbtxt``, a ``ModelConfig`` message in protobuf's text format.

    Args:
        name: of the engine; Triton wants it equal to the folder's.
        backend: of the target, e.g. ``onnxruntime-cpu``.
        inputs, outputs: of the engine, full shapes, open dimensions as ``None``.
        max_batch_size: largest batch that the engine was built for. If it is more than 1 and every input and output
            has an open first dimension, Triton is told that the engine batches, and the shapes lose that dimension.
        variants: the file for each compute capability that the engine is for, where those were named.
        accelerators: what is said to the backend's GPU accelerators, by their names.

    Raises:
        RegistryError: Triton does not serve the backend, or has no such data type.
    """
    served = triton_backend(backend)
    batches = max_batch_size > 1 and all(t.shape and t.shape[0] is None for t in (*inputs, *outputs))
    return "\n".join(
        [
            f"name: {_quoted(name)}",
            f"backend: {_quoted(served.backend)}",
            *(_files(served.model_file, variants or {}) if served.names_model else []),
            f"max_batch_size: {max_batch_size if batches else 0}",
            "version_policy { latest { num_versions: 1 } }",
            f"instance_group [ {{ kind: {served.instances} }} ]",
            *(_tensor("input", tensor, batches) for tensor in inputs),
            *(_tensor("output", tensor, batches) for tensor in outputs),
            *_optimization(accelerators or {}),
            "",
        ]
    )


def _files(model_file: str, variants: Mapping[str, str]) -> list[str]:
    if not variants:
        return [f"default_model_filename: {_quoted(model_file)}"]
    entries = (f"{{ key: {_quoted(capability)} value: {_quoted(file)} }}" for capability, file in variants.items())
    return [f"cc_model_filenames [ {', '.join(entries)} ]"]


def _optimization(accelerators: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not accelerators:
        return []
    entries = []
    for name, parameters in accelerators.items():
        said = [f"parameters {{ key: {_quoted(key)} value: {_quoted(value)} }}" for key, value in parameters.items()]
        entries.append("    { " + " ".join([f"name: {_quoted(name)}", *said]) + " }")
    listed = ",\n".join(entries)
    return [f"optimization {{ execution_accelerators {{ gpu_execution_accelerator: [\n{listed}\n] }} }}"]


def _tensor(field: str, tensor: TensorFacts, batches: bool) -> str:
    data_type = _TRITON_TYPES.get(tensor.dtype)
    if data_type is None:
        hint = f"Triton's types are, in numpy's words: {', '.join(_TRITON_TYPES)}"
        raise RegistryError(f"Triton has no type for the {field} {tensor.name!r} of dtype {tensor.dtype}", hint=hint)
    dims = [-1 if dim is None else dim for dim in tensor.shape][1 if batches else 0 :]
    lines = [f"  name: {_quoted(tensor.name)}", f"  data_type: {data_type}", f"  dims: {dims or [1]}"]
    if not dims:  # Triton refuses empty dims: a scalar travels as [1] and is reshaped for the model.
        lines.append("  reshape { shape: [] }")
    return "\n".join([f"{field} {{", *lines, "}"])


def _quoted(text: str) -> str:
    """A protobuf text-format string; everything but plain ASCII is written as octal escapes of its UTF-8 bytes."""
    return '"' + "".join(_escaped(byte) for byte in text.encode()) + '"'


def _escaped(byte: int) -> str:
    if chr(byte) in ('"', "\\"):
        return f"\\{chr(byte)}"
    return chr(byte) if _FIRST_PRINTABLE <= byte <= _LAST_PRINTABLE else f"\\{byte:03o}"
