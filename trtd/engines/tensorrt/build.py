"""From an ONNX graph whose types say the precision to a TensorRT engine file, for one compute capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtd.engines.tensorrt.cuda import take_device
from trtd.engines.tensorrt.errors import build_error, no_gpu, parse_error
from trtd.engines.tensorrt.flavours import Flavour
from trtd.engines.tensorrt.log import Tell, listen, make_monitor
from trtd.engines.tensorrt.timing import TimingCache
from trtd.errors import EngineError
from trtd.spec.schema import TensorRTSection

Shapes = Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]]
"""Input name to smallest, optimal and largest shape."""

_HARDWARE = {"none": "NONE", "same-compute-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}


@dataclass(frozen=True)
class Order:
    """What to build.

    Attributes:
        graph: the ONNX file.
        capability: ``8.9``; ``None`` for the GPU of this machine.
        given_timings: file of kernel timings to start from; it is only read.
        kept_timings: folder with one file of timings for each GPU, read and written anew; ``None`` to keep none.
    """

    graph: Path
    shapes: Shapes
    options: TensorRTSection
    capability: str | None = None
    given_timings: Path | None = None
    kept_timings: Path | None = None


@dataclass
class Built:
    """What came of it: TensorRT's warnings, and what there is to tell of the timing cache."""

    warnings: list[str] = field(default_factory=list)
    timing_cache: str = ""


def build_engine(flavour: Flavour, order: Order, out: Path, tell: Tell) -> Built:
    """Write the engine to ``out``. Strongly typed: what runs in which precision, the graph alone says.

    Source: NVIDIA TensorRT documentation, "Strongly Typed Networks", "Working with Dynamic Shapes", and TensorRT-RTX
    documentation, "CPU-Only AOT and TensorRT-RTX Engines".

    Raises:
        EnvironmentMissing: the package or the GPU that the build needs is not there.
        EngineError: the network cannot become an engine; the message names the node.
        WorkerOutOfMemory: the device has too little memory.
    """
    trt = flavour.load()
    name = f"{flavour.module} {trt.__version__}"
    ahead = flavour.capabilities and order.capability is not None
    gpu = None if ahead else take_device([order.capability] if order.capability else [])
    logger, kept = listen(trt)
    builder = _builder(trt, logger, name)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(order.graph)):
        raise parse_error(name, parser)
    config = builder.create_builder_config()
    _configure(trt, flavour, config, order)
    config.add_optimization_profile(_profile(builder, network, order.shapes))
    config.progress_monitor = make_monitor(trt, tell)
    timings = None
    if flavour.times_kernels and gpu is not None:
        kept_in = None if order.kept_timings is None else order.kept_timings / f"{gpu.uuid}.timings"
        timings = TimingCache.open(config, given=order.given_timings, kept=kept_in)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise build_error(name, kept.errors)
    with out.open("wb") as file:
        file.write(plan)
    return Built(kept.warnings, timings.save(config) if timings is not None else "")


def _builder(trt: Any, logger: Any, name: str) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # pybind11: the factory gave nothing, for want of a GPU or a driver
        raise no_gpu(name) from error


def _configure(trt: Any, flavour: Flavour, config: Any, order: Order) -> None:
    options, flags = order.options, trt.BuilderFlag
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector cannot say what runs in 8 bits
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    _set(config, flags.TF32, options.tf32)
    _set(config, flags.SPARSE_WEIGHTS, options.sparse_weights)
    _set(config, flags.VERSION_COMPATIBLE, options.version_compatible)
    if options.hardware_compatibility != "none":
        level = _HARDWARE[options.hardware_compatibility]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if flavour.capabilities:
        wanted = "CURRENT" if order.capability is None else f"SM{order.capability.replace('.', '')}"
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, wanted), 0)


def _set(config: Any, flag: Any, wanted: bool) -> None:
    if wanted:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)


def _profile(builder: Any, network: Any, shapes: Shapes) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        given = shapes.get(tensor.name)
        if given is None:
            raise EngineError(
                f"the input {tensor.name} has no shapes to build for",
                where=tensor.name,
                hint=f"add [model.inputs.{tensor.name}] with min, opt and max",
            )
        if tensor.is_shape_tensor:
            raise EngineError(
                f"the values of the input {tensor.name} are shapes, which no profile of trtd's can bound",
                where=tensor.name,
                hint="export the model with that input fixed",
            )
        profile.set_shape(tensor.name, *(tuple(shape) for shape in given))
    return profile


def plan_name(capability: str | None) -> str:
    """File of an engine for a compute capability; of the only engine for ``None``."""
    return "model.plan" if capability is None else f"model_cc{capability.replace('.', '')}.plan"
