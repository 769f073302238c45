"""A stand-in for the GPU part of Paddle Inference: the real Paddle runs the model on the CPU, TensorRT is played.

It keeps Paddle's protocol as ``trt_int8_calibrator.cc``, ``tensorrt_subgraph_pass.cc`` and ``analysis_config.cc`` of
2.6.2 have it: which calls are ignored without a GPU, what is logged, which files are looked for, and when they are
written: calibration tables beside the model when the predictor ends, engines in the cache folder when it is made.

``STAND_IN_PADDLE_FAULT`` may say ``no-libnvinfer``, ``no-tensorrt``, ``unreached`` (a subgraph that no input reaches),
``no-subgraph``, ``hang`` (a run that never returns) or ``coarse`` (INT8 that loses almost everything).
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HEADER = "TRT-8503-EntropyCalibration2"
SUBGRAPHS = 2


def _fault(kind: str) -> bool:
    return kind in os.environ.get("STAND_IN_PADDLE_FAULT", "")


def _log(text: str) -> None:
    os.write(2, f"I0101 00:00:00.000000     1 stand_in.cc:1] {text}\n".encode())


def patch(module: Any) -> None:
    """Put the stand-ins into ``paddle.inference``."""
    real_config, real_create = module.Config, module.create_predictor
    precision = module.PrecisionType

    class Config(real_config):  # type: ignore[misc,valid-type]
        def __init__(self, *files: str) -> None:
            super().__init__(*files)
            self.files, self.gpu, self.used = files, False, False
            self.tensorrt: dict[str, Any] | None = None
            self.cache: Path | None = None

        def enable_use_gpu(
            self, memory_pool_init_size_mb: int, device_id: int = 0, precision_mode: Any = precision.Float32
        ) -> None:
            if precision_mode == precision.Int8:
                raise ValueError("(InvalidArgument) The Paddle-GPU inference currently only supports float32/float16")
            self.gpu = True

        def disable_gpu(self) -> None:
            self.gpu = False
            super().disable_gpu()

        def use_gpu(self) -> bool:
            return bool(self.gpu)

        def enable_tensorrt_engine(self, **options: Any) -> None:
            if _fault("no-tensorrt"):
                raise RuntimeError("(PreconditionNotMet) To use Paddle-TensorRT, please compile with TENSORRT first.")
            if not self.gpu:
                _log("To use TensorRT engine, please call EnableUseGpu() first")
                return
            self.tensorrt = options

        def tensorrt_engine_enabled(self) -> bool:
            return self.tensorrt is not None

        def set_optim_cache_dir(self, folder: str) -> None:
            self.cache = Path(folder)
            self.cache.mkdir(parents=True, exist_ok=True)

    def create_predictor(config: Any) -> Any:
        if not isinstance(config, Config) or not config.gpu:
            return real_create(config)
        if config.used:
            raise ValueError("(InvalidArgument) The config is used already")
        config.used = True
        if config.tensorrt is not None and _fault("no-libnvinfer"):
            raise RuntimeError("TensorRT dynamic library (libnvinfer.so) that Paddle depends on is not configured.")
        on_cpu = real_config(*config.files)
        on_cpu.disable_gpu()
        on_cpu.disable_mkldnn()
        on_cpu.disable_glog_info()
        return Predictor(real_create(on_cpu), config, precision)

    module.Config, module.create_predictor = Config, create_predictor
    module.get_trt_compile_version = lambda: (8, 5, 3)


class Predictor:
    """A predictor on the CPU that writes and reads what one with TensorRT would."""

    def __init__(self, real: Any, config: Any, precision: Any) -> None:
        self._real, self._runs, self._amax = real, 0, 0.0
        self._calibrating: list[str] = []
        self._int8 = False
        if config.tensorrt is None:
            return
        home = Path(config.files[0]).parent / "_opt_cache"
        self._written = home
        cache = config.cache or home
        options = config.tensorrt
        recipe = f"{options['min_subgraph_size']} {options['use_cuda_graph']} {options['precision_mode']}"
        keys = [str(zlib.crc32(f"{recipe} {number}".encode())) for number in range(SUBGRAPHS)]
        if _fault("no-subgraph") or options["min_subgraph_size"] > 100:
            keys = []
        for _ in keys:
            _log("---  detect a sub-graph with 12 nodes")
        if options["precision_mode"] == precision.Int8 and options["use_calib_mode"]:
            self._calibrating = [key for key in keys if not _filled(cache / f"trt_calib_{key}")]
            self._int8 = not self._calibrating
            mode = "generating calibration table" if self._calibrating else "RUN Paddle TRT int8 calibration mode..."
            _log(f"This process is {mode}")
        else:
            self._int8 = options["precision_mode"] == precision.Int8
        if options["use_static"] and not self._calibrating:
            cache.mkdir(parents=True, exist_ok=True)
            for key in keys:
                engine = cache / f"trt_serialized_{key}"
                _log(f"{'Load' if engine.exists() else 'Save'} TRT Optimized Info from {engine}")
                if not engine.exists():
                    engine.write_bytes(b"STAND-IN SERIALIZED ENGINE " + os.urandom(8))

    def get_input_names(self) -> list[str]:
        return list(self._real.get_input_names())

    def get_output_names(self) -> list[str]:
        return list(self._real.get_output_names())

    def get_input_handle(self, name: str) -> Any:
        return self._real.get_input_handle(name)

    def get_output_handle(self, name: str) -> Any:
        return _Output(self._real.get_output_handle(name), self._int8)

    def run(self) -> None:
        if _fault("hang"):
            time.sleep(3600)
        self._runs += 1
        self._real.run()

    def __del__(self) -> None:
        if not self._calibrating:
            return
        if not self._runs:
            _log("You should run the predictor(with trt) on the real data to generate calibration info")
            return
        self._written.mkdir(exist_ok=True)
        for number, key in enumerate(self._calibrating):
            if number and _fault("unreached"):
                return
            lines = [HEADER, *(f"conv{number}.{i}_output: 3c{i:02x}0a14" for i in range(4))]
            _log(f"Write Paddle-TRT INT8 calibration table data to file {self._written / key}")
            (self._written / f"trt_calib_{key}").write_text("\n".join(lines) + "\n")


class _Output:
    """An output; of an INT8 engine rounded to steps of its largest value."""

    def __init__(self, real: Any, int8: bool) -> None:
        self._real, self._int8 = real, int8

    def copy_to_cpu(self) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self._real.copy_to_cpu()
        if not self._int8:
            return found
        step = float(np.abs(found).max() or 1.0) / (1 if _fault("coarse") else 127)
        rounded: np.ndarray[Any, Any] = (np.rint(found / step) * step).astype(found.dtype)
        return rounded


def _filled(path: Path) -> bool:
    return path.is_file() and path.read_text().startswith(HEADER)
