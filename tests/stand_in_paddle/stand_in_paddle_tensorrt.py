"""A stand-in for ``paddle.tensorrt``, which only Paddle wheels with TensorRT have: it copies the program."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class PrecisionMode(Enum):
    FP32 = 0
    FP16 = 1
    INT8 = 3


@dataclass
class Input:
    min_input_shape: tuple[int, ...]
    max_input_shape: tuple[int, ...]
    optim_input_shape: tuple[int, ...]
    input_data_type: str = "float32"
    name: str | None = None


@dataclass
class TensorRTConfig:
    inputs: list[Input]
    min_subgraph_size: int = 3
    save_model_dir: str | None = None
    disable_ops: Any = None
    precision_mode: PrecisionMode = PrecisionMode.FP32
    workspace_size: int = 1 << 30
    use_cuda_graph: bool = False


def convert(model_path: str, config: TensorRTConfig) -> None:
    assert config.save_model_dir is not None
    stem = Path(config.save_model_dir)
    stem.mkdir(parents=True)
    for suffix in (".json", ".pdiparams"):
        shutil.copyfile(Path(model_path).with_suffix(suffix), stem.with_suffix(suffix))
    (stem / "engine_1_0.trt").write_bytes(f"STAND-IN ENGINE in {config.precision_mode.name}".encode())
