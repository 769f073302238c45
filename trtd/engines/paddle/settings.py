"""What is said to Paddle's ``Config``, as data: ``engine.json`` holds it, a runner obeys it, a script is written of it.

The order of the calls matters: ``enable_tensorrt_engine`` before ``enable_use_gpu`` is ignored with a line in the log.
Source: Paddle 2.6.2 and 3.3.1, ``analysis_config.cc`` and ``inference_api.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from trtd.document import Document
from trtd.model.facts import TensorFacts

PaddlePrecision = Literal["Float32", "Half", "Bfloat16", "Int8"]

PRECISIONS: dict[str, PaddlePrecision] = {"fp32": "Float32", "fp16": "Half", "bf16": "Bfloat16", "int8": "Int8"}
SETTINGS_FILE = "engine.json"
SCRIPT_FILE = "run.py"
OPT_CACHE = "_opt_cache"
SHAPE_RANGE_FILE = "shape_range_info.pbtxt"


class ShapeRange(Document):
    """Smallest, largest and usual shape of one input."""

    min: tuple[int, ...]
    max: tuple[int, ...]
    optim: tuple[int, ...]


class TensorRTSettings(Document):
    """Arguments of ``enable_tensorrt_engine`` by Paddle's own names, and what belongs to it.

    Attributes:
        workspace_size: bytes.
        max_batch_size: counts where there are no shape ranges.
        min_subgraph_size: a subgraph of so many operators, or fewer, stays with Paddle.
        use_static: engines are kept beside the model and read again.
        use_calib_mode: of Int8: make a calibration table, or use the one that is there; else scales are the model's.
        shapes: ranges of the inputs, where an input is open beyond its batch; empty for none.
        shape_range_file: ranges of all tensors, collected on real data; in its place.
    """

    workspace_size: int
    max_batch_size: int
    min_subgraph_size: int
    use_static: bool
    use_calib_mode: bool
    use_cuda_graph: bool
    shapes: dict[str, ShapeRange] = Field(default_factory=dict)
    shape_range_file: str = ""
    disable_ops: tuple[str, ...] = ()
    disable_subgraph: tuple[str, ...] = ()


class PaddleSettings(Document):
    """One engine.

    Attributes:
        model_file, params_file: names in the engine's folder.
        precision: of the GPU's kernels, be they Paddle's or TensorRT's.
        gpu: False: Paddle's FP32 on the CPU.
        memory_pool_init_size_mb: of the GPU's memory that Paddle takes at the start.
        tensorrt: ``None``: Paddle's own kernels.
        inputs: names, dtypes and shapes.
        converted: the TensorRT engines are in the program already, by ``paddle.tensorrt.convert``.
        paddle, tensorrt_version: that built it; of TensorRT the one that was loaded. Empty for what took no part.
    """

    schema_version: Literal[1] = 1
    model_file: str
    params_file: str
    precision: PaddlePrecision
    gpu: bool
    inputs: tuple[TensorFacts, ...]
    memory_pool_init_size_mb: int = 256
    tensorrt: TensorRTSettings | None = None
    converted: bool = False
    paddle: str = ""
    tensorrt_version: str = ""


class PaddleTable(Document):
    """One calibration table as TensorRT wrote it.

    Attributes:
        file: its name in ``_opt_cache``. The key in it is Paddle's own business.
        header: of its first line, ``TRT-8503-EntropyCalibration2``.
        tensors: how many have a range.
        digest: ``sha256:…`` of the file.
    """

    file: str
    header: str
    tensors: int
    digest: str


@dataclass(frozen=True)
class Precision:
    """``PrecisionType.NAME``, an argument that is no plain value."""

    name: PaddlePrecision


@dataclass(frozen=True)
class InFolder:
    """A path in the engine's folder, an argument that depends on where that is."""

    name: str


@dataclass(frozen=True)
class Call:
    """One call on a ``Config``.

    Attributes:
        newer: in which Paddle it appeared, if not all that are served have it.
    """

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[Any, ...] = ()
    newer: str = ""


def calls(settings: PaddleSettings) -> list[Call]:
    """Everything to say to a ``Config`` of the model, in order."""
    if not settings.gpu:
        return [Call("disable_gpu"), Call("disable_mkldnn")]
    native = settings.precision if settings.tensorrt is None and not settings.converted else "Float32"
    gpu = {
        "memory_pool_init_size_mb": settings.memory_pool_init_size_mb,
        "device_id": 0,  # CUDA_VISIBLE_DEVICES decides which that is
        "precision_mode": Precision(native),
    }
    said = [Call("enable_use_gpu", gpu)]
    if not settings.model_file.endswith(".json"):
        said.append(Call("enable_memory_optim"))  # of a PIR program, Paddle 3.3 looks for a result that is not there
    return (
        said
        if settings.tensorrt is None or settings.converted
        else [*said, *_tensorrt(settings.tensorrt, settings.precision)]
    )


def _tensorrt(trt: TensorRTSettings, precision: PaddlePrecision) -> list[Call]:
    options = trt.model_dump(exclude={"shapes", "shape_range_file", "disable_ops", "disable_subgraph"})
    said = [Call("enable_tensorrt_engine", {**options, "precision_mode": Precision(precision)})]
    if trt.shape_range_file:
        tuned = {"shape_range_info_path": InFolder(trt.shape_range_file), "allow_build_at_runtime": False}
        said.append(Call("enable_tuned_tensorrt_dynamic_shape", tuned))
    elif trt.shapes:
        ranges = {
            f"{kind}_input_shape": {name: list(getattr(shape, kind)) for name, shape in trt.shapes.items()}
            for kind in ("min", "max", "optim")
        }
        said.append(Call("set_trt_dynamic_shape_info", ranges))
    if trt.disable_ops:
        said.append(Call("exp_disable_tensorrt_ops", positional=(list(trt.disable_ops),)))
    if trt.disable_subgraph:
        said.append(Call("exp_disable_tensorrt_subgraph", positional=(list(trt.disable_subgraph),), newer="3.0"))
    return said
