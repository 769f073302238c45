"""A stand-in for TensorRT's and TensorRT-RTX's Python bindings: engines hold their graph, and ONNX Runtime runs it.

Names, calls and what comes back for bad input are those of the real bindings as far as trtd uses them;
``tests/engines/test_tensorrt_contract.py`` holds the names against the real ones. What it cannot stand in for are
kernels: times are those of a CPU.
"""

from __future__ import annotations

import json
import os
from enum import IntEnum, auto
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from cuda.bindings import runtime as cuda

MAGIC = b"STAND-IN ENGINE "
TIMINGS = b"STAND-IN TIMINGS "
Shape = tuple[int, ...]


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    ERROR = Severity.ERROR

    def __init__(self, severity: Severity) -> None:
        self._severity = severity

    def log(self, severity: Severity, message: str) -> None:
        if severity <= self._severity:
            print(message)


class IProgressMonitor:
    pass


class IProfiler:
    pass


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(IntEnum):
    TF32 = auto()
    SPARSE_WEIGHTS = auto()
    VERSION_COMPATIBLE = auto()


class ProfilingVerbosity(IntEnum):
    DETAILED = auto()


class MemoryPoolType(IntEnum):
    WORKSPACE = auto()


class HardwareCompatibilityLevel(IntEnum):
    NONE = auto()
    AMPERE_PLUS = auto()
    SAME_COMPUTE_CAPABILITY = auto()


class ComputeCapability(IntEnum):
    CURRENT = 0
    SM75 = 75
    SM80 = 80
    SM86 = 86
    SM89 = 89
    SM120 = 120
    SM121 = 121


class TensorIOMode(IntEnum):
    INPUT = auto()
    OUTPUT = auto()


class LayerInformationFormat(IntEnum):
    JSON = auto()


class DynamicShapesKernelSpecializationStrategy(IntEnum):
    LAZY = auto()
    EAGER = auto()


class CudaGraphStrategy(IntEnum):
    DISABLED = auto()
    WHOLE_GRAPH_CAPTURE = auto()


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = auto()
    USER_MANAGED = auto()


class ErrorCode(IntEnum):
    UNSUPPORTED_NODE = auto()
    INVALID_NODE = auto()


def nptype(dtype: Any) -> Any:
    return dtype


def _fault(kind: str) -> bool:
    return kind in os.environ.get("STAND_IN_GPU_FAULT", "")


def _here() -> str:
    chosen: int = cuda.current
    return os.environ.get("STAND_IN_GPUS", "").split(",")[chosen]


class ParserError:
    def __init__(self, code: ErrorCode, node: onnx.NodeProto, desc: str) -> None:
        self._facts = code, node, desc

    def code(self) -> ErrorCode:
        return self._facts[0]

    def node_name(self) -> str:
        return self._facts[1].name

    def node_operator(self) -> str:
        return self._facts[1].op_type

    def desc(self) -> str:
        return self._facts[2]


class Tensor:
    is_shape_tensor = False

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, shape


class Network:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    @property
    def _inputs(self) -> list[Tensor]:
        stored = {t.name for t in self.model.graph.initializer}
        return [Tensor(v.name, _dims(v)) for v in self.model.graph.input if v.name not in stored]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]


class OnnxParser:
    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    def parse_from_file(self, path: str) -> bool:
        self._network.model = onnx.load(path)
        for node in self._network.model.graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type in ("Unique", "StringNormalizer"):
                what = f"In node 0 with name: {node.name} and operator: {node.op_type} (checkFallbackPluginImporter): "
                what += 'UNSUPPORTED_NODE: Assertion failed: creator && "Plugin not found"'
                self._errors.append(ParserError(ErrorCode.UNSUPPORTED_NODE, node, what))
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Shape]] = {}

    def set_shape(self, name: str, low: Shape, best: Shape, high: Shape) -> None:
        self.shapes[name] = [low, best, high]


class Timings:
    def __init__(self, keys: set[str]) -> None:
        self.keys = keys

    def queryKeys(self) -> list[str]:
        return sorted(self.keys)

    def combine(self, other: Timings, ignore_mismatch: bool) -> bool:
        self.keys |= other.keys
        return True

    def serialize(self) -> bytes:
        return TIMINGS + json.dumps(sorted(self.keys)).encode()


class Config:
    def __init__(self) -> None:
        self.flags: set[BuilderFlag] = {BuilderFlag.TF32}
        self.profiles: list[Profile] = []
        self.capability = ComputeCapability.CURRENT
        self.timings = Timings(set())
        self.progress_monitor: Any = None
        self.pools: dict[MemoryPoolType, int] = {}

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, nbytes: int) -> None:
        self.pools[pool] = nbytes

    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool:
        self.capability = capability
        return True

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Timings | None:
        if data and not data.startswith(TIMINGS):
            return None
        return Timings(set(json.loads(data[len(TIMINGS) :])) if data else set())

    def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> bool:
        self.timings = cache
        return True

    def get_timing_cache(self) -> Timings:
        return self.timings


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        if _fault("no-memory-to-build"):
            self._logger.log(Severity.ERROR, "[builder.cpp::build::1] Error Code 2: OutOfMemory (Requested size was 1)")
            return None
        nodes = network.model.graph.node
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 2)
        monitor.phase_start("Timing", "Building Engine", len(nodes))
        for step, node in enumerate(nodes):
            config.timings.keys.add(f"{node.op_type}:{len(node.input)}")
            if not monitor.step_complete("Timing", step):
                return None
        monitor.phase_finish("Timing")
        for step in range(2):
            monitor.step_complete("Building Engine", step)
        monitor.phase_finish("Building Engine")
        self._logger.log(Severity.WARNING, "the kernels of this engine are stand-ins")
        capability = _here() if config.capability is ComputeCapability.CURRENT else str(config.capability.value)
        about = {
            "capability": capability.replace(".", ""),
            "flags": sorted(flag.name for flag in config.flags),
            "profile": config.profiles[0].shapes,
        }
        graph = network.model.SerializeToString()
        return MAGIC + json.dumps({**about, "size": len(graph)}).encode() + b"\n" + graph


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        head, _, graph = plan.partition(b"\n")
        if not head.startswith(MAGIC):
            self._refuse("Serialization assertion magicTag == rt::kMAGIC_TAG failed")
            return None
        about = json.loads(head[len(MAGIC) :])
        if about["size"] != len(graph):
            self._refuse("Assertion plan.header.size == blobSize failed")
            return None
        if about["capability"] != _here().replace(".", ""):
            self._refuse("The engine plan file is generated on an incompatible device, expecting compute 8.9")
            return None
        return Engine(graph, about["profile"], self._logger)

    def _refuse(self, message: str) -> None:
        self._logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: {message}")


class RuntimeCache:
    def __init__(self) -> None:
        self._kernels = b"STAND-IN KERNELS"

    def deserialize(self, data: bytes) -> bool:
        return data.startswith(self._kernels)

    def serialize(self) -> bytes:
        return self._kernels


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    allocation = ExecutionContextAllocationStrategy.STATIC

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        return True

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.allocation = strategy


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        return json.dumps({"Layers": self._engine.layers()})


class Engine:
    def __init__(self, graph: bytes, profile: dict[str, list[Shape]], logger: ILogger) -> None:
        self.model, self.profile, self.logger = onnx.load_from_string(graph), profile, logger
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tensors = {v.name: v for v in [*self.model.graph.input, *self.model.graph.output]}
        self._inputs = [v.name for v in self.session.get_inputs()]
        self._names = self._inputs + [v.name for v in self.session.get_outputs()]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return str(self._names[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return onnx.helper.tensor_dtype_to_np_dtype(self._tensors[name].type.tensor_type.elem_type)

    def get_tensor_shape(self, name: str) -> Shape:
        return _dims(self._tensors[name])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Shape]:
        return [tuple(shape) for shape in self.profile[name]]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        return Context(self, config)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    def layers(self) -> list[dict[str, Any]]:
        """Each operator a layer; in 8 bits if its inputs come out of DequantizeLinear."""
        made = {name: node for node in self.model.graph.node for name in node.output}
        weights = {t.name: t.data_type for t in self.model.graph.initializer}
        found: list[dict[str, Any]] = []
        for node in self.model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast", "Constant"):
                continue
            sources = [_through_casts(name, made) for name in node.input]
            makers = [made[name].op_type for name in sources if name in made]
            half = any(weights.get(name) == onnx.TensorProto.FLOAT16 for name in node.input)
            kind = "Half" if half else "Float"
            if makers[:2] == ["DequantizeLinear"] * 2 and not _fault("no-int8"):
                kind = "Int8"
            found.append(
                {
                    "Name": f"{node.op_type}_myl0_{len(found)}",
                    "LayerType": node.op_type.lower(),
                    "Inputs": [{"Name": node.input[0] if node.input else "", "Datatype": kind}],
                    "Metadata": f"[ONNX Layer: {node.name}]",
                }
            )
        return found


def _through_casts(name: str, made: dict[str, onnx.NodeProto]) -> str:
    while name in made and made[name].op_type == "Cast":
        name = made[name].input[0]
    return name


class Context:
    """What the real one answers with ``False`` or ``-1``, and what it crashes at: an assertion here."""

    def __init__(self, engine: Engine, config: RuntimeConfig | None) -> None:
        self._engine = engine
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._configured = config is not None
        self._managed = config is not None and config.allocation is ExecutionContextAllocationStrategy.USER_MANAGED
        self._scratch = 0
        self.profiler: Any = None

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        if name in self._shapes:
            return self._shapes[name]
        zeros = {n: np.zeros(s, self._engine.get_tensor_dtype(n)) for n, s in self._shapes.items()}
        return tuple(self._engine.session.run([name], zeros)[0].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        self._scratch = 0
        return 4096

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self._scratch = nbytes

    def is_stream_capturable(self, stream: int) -> bool:
        return self._managed or not self._configured

    def execute_async_v3(self, stream: int) -> bool:
        if _fault("execute"):
            self._engine.logger.log(Severity.ERROR, "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (719)")
            return False
        if self._managed:
            assert self._scratch >= 4096, "no device memory was given after the shapes changed"
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        cuda.enqueue(stream, lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        feeds = {n: _at(addresses[n], s, self._engine.get_tensor_dtype(n)) for n, s in shapes.items()}
        names = [o.name for o in self._engine.session.get_outputs()]
        for name, value in zip(names, self._engine.session.run(names, feeds), strict=True):
            _at(addresses[name], value.shape, value.dtype)[...] = value
        if self.profiler is not None:
            for layer in self._engine.layers():
                self.profiler.report_layer_time(layer["Name"], 0.5)


def _at(address: int, shape: Shape, dtype: Any) -> np.ndarray[Any, Any]:
    import ctypes

    count = int(np.prod(shape, dtype=int))
    memory = (ctypes.c_byte * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _dims(value: onnx.ValueInfoProto) -> Shape:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
