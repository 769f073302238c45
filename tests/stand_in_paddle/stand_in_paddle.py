"""A stand-in for the GPU part of Paddle Inference: the real Paddle runs the model on the CPU, TensorRT is played.

It keeps Paddle's protocol as ``trt_int8_calibrator.cc``, ``tensorrt_subgraph_pass.cc`` and ``analysis_config.cc`` of
2.6.2 have it: which calls are ignored without a GPU, what is logged, which files are looked for, and when they are
written: calibration tables beside the model when the predictor ends, engines in the cache folder when it is made.
Engines of a PIR program are looked for as ``tensorrt_engine_instruction.cc`` of Paddle 3 does.

``STAND_IN_PADDLE_FAULT`` may say ``no-libnvinfer``, ``no-tensorrt``, ``unreached`` (a subgraph that no input reaches),
``no-subgraph``, ``other-subgraphs`` (in each process), ``hang`` (a run that never returns) or ``coarse`` (calibrated
INT8 that loses almost everything). ``STAND_IN_PADDLE_TENSORRT`` is the version of the TensorRT that it finds.
"""

from __future__ import annotations

import itertools
import os
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import paddle

SUBGRAPHS = 2
PIR_ENGINE = "engine_1_0.trt"
ENGINES_FLAG = "FLAGS_trt_engine_serialized_path"
_others = itertools.count()


def _found() -> tuple[int, ...]:
    return tuple(int(part) for part in os.environ.get("STAND_IN_PADDLE_TENSORRT", "8.5.3").split("."))


def _header() -> str:
    major, minor, patch = _found()
    return f"TRT-{major * 1000 + minor * 100 + patch}-EntropyCalibration2"


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
            self.dynamic = False
            self.disabled: list[str] = []

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

        def set_trt_dynamic_shape_info(self, **ranges: Any) -> None:
            self.dynamic = True

        def enable_tuned_tensorrt_dynamic_shape(self, *, shape_range_info_path: str, **options: Any) -> None:
            if "shape_range_info" not in Path(shape_range_info_path).read_text():
                raise ValueError("(InvalidArgument) no shapes in it")
            self.dynamic = True

        def exp_disable_tensorrt_ops(self, names: list[str]) -> None:
            self.disabled += names

        def exp_disable_tensorrt_subgraph(self, names: list[str]) -> None:
            self.disabled += names

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
        if config.tensorrt is not None:
            load_tensorrt()
        on_cpu = real_config(*config.files)
        on_cpu.disable_gpu()
        on_cpu.disable_mkldnn()
        on_cpu.disable_glog_info()
        return Predictor(real_create(on_cpu), config, precision)

    def load_tensorrt() -> tuple[int, ...]:
        if _fault("no-libnvinfer"):
            raise RuntimeError("TensorRT dynamic library (libnvinfer.so) that Paddle depends on is not configured.")
        return _found()

    module.Config, module.create_predictor = Config, create_predictor
    module.get_trt_compile_version = lambda: (0, 0, 0) if _fault("no-tensorrt") else (8, 5, 3)
    module.get_trt_runtime_version = load_tensorrt
    paddle.is_compiled_with_cuda = paddle.device.is_compiled_with_cuda = lambda: True  # paddle takes it from there


class Predictor:
    """A predictor on the CPU that writes and reads what one with TensorRT would."""

    def __init__(self, real: Any, config: Any, precision: Any) -> None:
        self._real, self._runs, self._amax = real, 0, 0.0
        self._calibrating: list[str] = []
        self._int8 = self._coarse = False
        self._engines: Path | None = None
        if config.tensorrt is None:
            self._find_engines(Path(config.files[0]))
            return
        home = Path(config.files[0]).parent / "_opt_cache"
        self._written = home
        options = config.tensorrt
        int8 = options["precision_mode"] == precision.Int8
        if config.cache is None and (int8 or options["use_static"] or config.dynamic):
            _make(home)
        cache = config.cache or home
        recipe = f"{options['min_subgraph_size']} {options['use_cuda_graph']} {options['precision_mode']}"
        recipe += f" {config.disabled} {config.dynamic} {next(_others) if _fault('other-subgraphs') else ''}"
        keys = [str(zlib.crc32(f"{recipe} {number}".encode())) for number in range(SUBGRAPHS)]
        if _fault("no-subgraph") or options["min_subgraph_size"] > 100:
            keys = []
        for _ in keys:
            _log("---  detect a sub-graph with 12 nodes")
        if int8 and options["use_calib_mode"]:
            self._calibrating = [key for key in keys if not _filled(cache / f"trt_calib_{key}")]
            self._int8 = not self._calibrating
            self._coarse = _fault("coarse")
            mode = "generating calibration table" if self._calibrating else "RUN Paddle TRT int8 calibration mode..."
            _log(f"This process is {mode}")
        else:
            self._int8 = int8
        if options["use_static"] and not self._calibrating:
            cache.mkdir(parents=True, exist_ok=True)
            for key in keys:
                engine = cache / f"trt_serialized_{key}"
                _log(f"{'Load' if engine.exists() else 'Save'} TRT Optimized Info from {engine}")
                if not engine.exists():
                    engine.write_bytes(b"STAND-IN SERIALIZED ENGINE " + os.urandom(8))

    def _find_engines(self, program: Path) -> None:
        """Of a PIR program; the flag is set by the first predictor of a process."""
        if not (program.with_suffix("") / PIR_ENGINE).is_file():
            return
        if paddle.get_flags(ENGINES_FLAG)[ENGINES_FLAG] == "./":
            paddle.set_flags({ENGINES_FLAG: str(program.with_suffix(""))})
        self._engines = program.with_suffix("") / PIR_ENGINE

    def get_input_names(self) -> list[str]:
        return list(self._real.get_input_names())

    def get_output_names(self) -> list[str]:
        return list(self._real.get_output_names())

    def get_input_handle(self, name: str) -> Any:
        return self._real.get_input_handle(name)

    def get_output_handle(self, name: str) -> Any:
        return _Output(self._real.get_output_handle(name), self._int8, self._coarse)

    def run(self) -> None:
        if _fault("hang"):
            time.sleep(3600)
        if self._engines is not None and not self._runs:
            found = Path(paddle.get_flags(ENGINES_FLAG)[ENGINES_FLAG]) / PIR_ENGINE
            if found.read_bytes() != self._engines.read_bytes():
                raise RuntimeError(f"(Fatal) this engine is another program's: {found}")
        self._runs += 1
        self._real.run()

    def __del__(self) -> None:
        if not self._calibrating:
            return
        if not self._runs:
            _log("You should run the predictor(with trt) on the real data to generate calibration info")
            return
        _make(self._written)
        for number, key in enumerate(self._calibrating):
            if number and _fault("unreached"):
                return
            lines = [_header(), *(f"conv{number}.{i}_output: 3c{i:02x}0a14" for i in range(4))]
            _log(f"Write Paddle-TRT INT8 calibration table data to file {self._written / key}")
            (self._written / f"trt_calib_{key}").write_text("\n".join(lines) + "\n")


class _Output:
    """An output; of an INT8 engine rounded to steps of its largest value."""

    def __init__(self, real: Any, int8: bool, coarse: bool) -> None:
        self._real, self._int8, self._coarse = real, int8, coarse

    def copy_to_cpu(self) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self._real.copy_to_cpu()
        if not self._int8:
            return found
        step = float(np.abs(found).max() or 1.0) / (1 if self._coarse else 127)
        rounded: np.ndarray[Any, Any] = (np.rint(found / step) * step).astype(found.dtype)
        return rounded


def _filled(path: Path) -> bool:
    return path.is_file() and path.read_text().startswith(_header())


def _make(folder: Path) -> None:
    """As Paddle makes ``_opt_cache``. The mode of its parent counts for root too, whom the kernel refuses nothing."""
    if not folder.is_dir() and not folder.parent.stat().st_mode & 0o222:
        raise RuntimeError(f"(PreconditionNotMet) Can not create optimize cache directory: {folder}")
    folder.mkdir(exist_ok=True)
