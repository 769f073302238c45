"""``python -m benchmarks.gpu``: TensorRT engines on the GPU of this machine, built, verified and run by trtd.

Everything goes the way of a user: ``trtd build`` makes, judges and publishes the engines, ``trtd verify`` judges them
again out of the registry, ``trtd bench`` times them. Beside it, trtd's runner against the shortest loop that runs the
same engine file through the bare bindings. Writes a Markdown file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from inspect import getdoc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures import encoder, resnet50
from trtd.api import load
from trtd.engines.gpu import gpus
from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner
from trtd.engines.protocol import Arrays
from trtd.engines.tensorrt.cuda import Buffer, Scratch, Stream
from trtd.engines.tensorrt.flavours import FLAVOURS, Flavour
from trtd.errors import EXIT_GATE
from trtd.pipeline.intake import take_in
from trtd.verify.latency import side_by_side

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (1, 2)
SPEC = """\
name = "{name}"
[model]
path = "{model}"
[model.inputs.x]
min = [1, {shape}]
opt = [{opt}, {shape}]
max = [32, {shape}]
[engine]
target = "{target}"
precision = {precisions}
[verify]
latency_runs = {runs}
[calibration]
data = "{data}"
samples = 32
"""
PAGES = """\
[calibration.preprocess]
resize = [480, 480]
channels = "bgr"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One model, its data, the precisions to build, and the batch to build and judge for."""

    name: str
    model: Path
    shape: tuple[int, ...]
    precisions: tuple[str, ...]
    data: str
    preprocess: str = ""
    opt: int = 8


class Bench:
    """A registry in a folder that is thrown away, and the commands that fill it."""

    def __init__(self, folder: Path, target: str, runs: int, roots: Sequence[Path]) -> None:
        self.folder, self.target, self.runs, self.roots = folder, target, runs, roots
        self.registry = folder / "registry"
        self.trtd("init", str(self.registry))

    def trtd(self, *arguments: str) -> Any:
        """Run a command, tell its time, and return what it says as JSON. Only a missed gate may stop it."""
        where = ["--registry", str(self.registry)] if arguments[0] != "init" else []
        command = [sys.executable, "-m", "trtd", *arguments, *where, "--json"]
        start = time.perf_counter()
        roots = os.pathsep.join([str(self.folder), *map(str, self.roots)])
        environment = {**os.environ, "TRTD_ALLOWED_ROOTS": roots}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        print(f"trtd {' '.join(arguments)}: {time.perf_counter() - start:.1f} s", flush=True)
        if done.returncode not in (0, EXIT_GATE):
            raise SystemExit(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return json.loads(done.stdout)["data"]

    def build(self, case: Case) -> list[dict[str, Any]]:
        """Build every precision; what came of each."""
        text = SPEC.format(
            name=case.name,
            model=case.model,
            shape=", ".join(map(str, case.shape)),
            target=self.target,
            precisions=json.dumps(case.precisions),
            opt=case.opt,
            data=case.data,
            runs=self.runs,
        )
        spec = self.folder / f"{case.name}.toml"
        spec.write_text(text + case.preprocess)
        said: list[dict[str, Any]] = self.trtd("build", str(spec))
        return said


def cases(folder: Path, det: Path | None, pages: Path | None) -> list[Case]:
    """PP-OCRv4 detection on pages, if it is given; ResNet-50 and a transformer encoder on noise."""
    found = []
    if det is not None and pages is not None:
        shutil.copytree(pages, folder / "pages")
        found.append(Case("det", det, (3, 480, 480), ("fp32", "fp16"), "pages/*.png", PAGES))
    random = np.random.default_rng(0)
    for name, write, shape in (("resnet50", resnet50, (3, 224, 224)), ("encoder", encoder, (128, 768))):
        write(folder / f"{name}.onnx")
        (folder / name).mkdir()
        for i in range(48):
            np.save(folder / name / f"{i:02d}.npy", random.standard_normal(shape).astype(np.float32))
        precisions = ("fp32", "fp16", "int8") if name == "encoder" else ("fp32", "fp16")
        found.append(Case(name, folder / f"{name}.onnx", shape, precisions, f"{name}/*.npy"))
    resnet = next(case for case in found if case.name == "resnet50")
    return [*reversed(found), replace(resnet, name="resnet50-b1", precisions=("fp16",), opt=1)]


def engines_of(bench: Bench, case: Case, names: Sequence[str], feeds: Mapping[int, Arrays], fp32: Path) -> Rows:
    """Fidelity against FP32 of ONNX Runtime on the CPU, and latency on the device and from host to host."""
    rows: Rows = []
    reference = OnnxRuntimeRunner(fp32)
    expected = {batch: next(iter(reference.run(given).values())).ravel() for batch, given in feeds.items()}
    reference.close()
    for name in names:
        for batch, given in feeds.items():
            timed = bench.trtd("bench", name, "--batch", str(batch), "--runs", str(bench.runs))
            with load(bench.registry, name) as engine:
                output = next(iter(engine.run(given).values())).ravel()
            want = expected[batch]
            device, host = timed["device_times"]["engine"], timed["engine"]
            rows.append(
                {
                    "engine": name,
                    "batch": batch,
                    "cosine": f"{_cosine(output, want):.6f}",
                    "relative L2": f"{np.linalg.norm(output - want) / np.linalg.norm(want):.2e}",
                    "device p50 ms": f"{device['p50_ms']:.3f}",
                    "device p99 ms": f"{device['p99_ms']:.3f}",
                    "items/s": f"{device['items_per_s']:,.0f}",
                    "host p50 ms": f"{host['p50_ms']:.3f}",
                    "host p99 ms": f"{host['p99_ms']:.3f}",
                    "over FP32": f"{timed['speedup']:.2f}",
                    "device MB": round(timed["device_times"]["memory_bytes"]["engine"] / 1e6),
                }
            )
    return rows


def _cosine(a: Any, b: Any) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


class BareLoop:
    """The shortest loop over the bindings: copy in, enqueue, copy out, wait."""

    def __init__(self, flavour: Flavour, plan: Path, feeds: Arrays, *, built_in_graphs: bool) -> None:
        trt = flavour.load()
        self._keep = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = self._keep.deserialize_cuda_engine(plan.read_bytes())
        if flavour.compiles_on_load:
            config = engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if built_in_graphs:
                config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._context = engine.create_execution_context(config)
        else:
            self._context = engine.create_execution_context()
        for name, array in feeds.items():
            self._context.set_input_shape(name, array.shape)
        if flavour.compiles_on_load:
            self._scratch = Scratch(self._context.update_device_memory_size_for_shapes())
            self._context.set_device_memory(self._scratch.address, self._scratch.nbytes)
        self._buffers = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(self._context.get_tensor_shape(name))
            self._buffers[name] = Buffer(shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
            self._context.set_tensor_address(name, self._buffers[name].address)
        self._stream, self._engine = Stream(), engine

    def run(self, feeds: Arrays) -> dict[str, Any]:
        for name, array in feeds.items():
            np.copyto(self._buffers[name].host, array)
            self._buffers[name].upload(self._stream.handle)
        self._context.execute_async_v3(self._stream.handle)
        outputs = [name for name in self._buffers if name not in feeds]
        for name in outputs:
            self._buffers[name].download(self._stream.handle)
        self._stream.wait()
        return {name: self._buffers[name].host.copy() for name in outputs}


def runner_against_bare(bench: Bench, names: Sequence[str], feeds: Mapping[int, Arrays]) -> Rows:
    """From host to host, interleaved: trtd's runner, and bare loops over the same engine file."""
    rows: Rows = []
    flavour = FLAVOURS[bench.target]
    for name in names:
        for batch, given in list(feeds.items())[:2]:
            with load(bench.registry, name) as engine:
                plan = bench.registry / "engines" / name / str(engine.manifest.version) / "model.plan"
                rivals: dict[str, Any] = {"trtd": engine}
                rivals["bare"] = BareLoop(flavour, plan, given, built_in_graphs=False)
                if flavour.compiles_on_load:
                    rivals["bare, built-in graphs"] = BareLoop(flavour, plan, given, built_in_graphs=True)
                times = side_by_side(rivals, [given], runs=2 * bench.runs)
            best = min(latency.p50_ms for rival, latency in times.items() if rival != "trtd")
            rows.append(
                {"engine": name, "batch": batch}
                | {f"{rival}, p50 ms": f"{latency.p50_ms:.3f}" for rival, latency in times.items()}
                | {"trtd over the best bare": f"{times['trtd'].p50_ms / best:.3f}"}
            )
    return rows


def builds_of(bench: Bench, case: Case, said: Sequence[dict[str, Any]]) -> Rows:
    """How the gates judged what was built, and what `trtd verify` says of it out of the registry.

    Ready: from the registry to the first output; cold, with all kernels still to compile, and warm.
    """
    rows: Rows = []
    for engine in said:
        report, name = engine["report"], engine["name"]
        row = {
            "engine": name,
            "gates": _verdict(report),
            "over FP32": f"{report['speedup']:.2f}",
            "plan MB": f"{report['engine_bytes'] / 1e6:.1f}",
        }
        rows.append(row)
        if not engine["published"]:
            continue
        row["verified again"] = _verdict(bench.trtd("verify", name)["report"])
        layers = bench.trtd("show", name, "--layers")["layers"]
        in_int8 = layers["quantizable"] - len(layers["not_in_8_bits"])
        row |= {
            "layers": str(len(layers["layers"])),
            "nodes in 8 bits": f"{in_int8} of {layers['quantizable']}" if layers["quantizable"] else "",
            "ready s, cold": f"{_ready_s(bench, name, case):.2f}",
            "ready s, warm": f"{_ready_s(bench, name, case):.2f}",
        }
    return rows


def _ready_s(bench: Bench, name: str, case: Case) -> float:
    start = time.perf_counter()
    with load(bench.registry, name) as loaded:
        loaded.run({"x": np.zeros((case.opt, *case.shape), np.float32)})
        return time.perf_counter() - start


def _verdict(report: dict[str, Any]) -> str:
    missed = [f"{g['name']} {g['measured']:.3g} {g['comparison']} {g['bound']:g}" for g in _missed(report)]
    return f"missed: {', '.join(missed)}" if missed else f"passed {len(report['gates'])}"


def _missed(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [gate for gate in report["gates"] if not gate["passed"]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--target", choices=sorted(FLAVOURS), default="tensorrt-rtx")
    parser.add_argument("--det", type=Path, help="PP-OCRv4 detection as an ONNX file; default: without it")
    parser.add_argument("--pages", type=Path, default=ROOT / "specs" / "ppocr-det" / "pages")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks" / ".cache" / "gpu", help="to work in")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.md")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    folder = options.folder.resolve()
    roots = [options.det.resolve().parent] if options.det else []
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    bench = Bench(folder, options.target, options.runs, roots)
    tables: dict[str, Rows] = {"Builds": [], "Engines": [], "Runner": []}
    for case in cases(folder, options.det and options.det.resolve(), options.pages):
        said = bench.build(case)
        published = [engine["name"] for engine in said if engine["published"]]
        tables["Builds"] += builds_of(bench, case, said)
        (intake,) = take_in(folder / f"{case.name}.toml", registry=None, extra_roots=[*roots, folder])
        feeds = {batch: intake.data.heldout.timing_feeds(batch)[0] for batch in BATCHES}
        tables["Engines"] += engines_of(bench, case, published, feeds, case.model)
        tables["Runner"] += runner_against_bare(bench, published, feeds)
        _write(options.out, options.target, tables)
    print(options.out.read_text())


def _write(out: Path, target: str, tables: dict[str, Rows]) -> None:
    here = gpus()
    gpu = here.found[0]
    lines = [
        f"# Results on {gpu.name}",
        "",
        f"Written on {datetime.now(timezone.utc):%Y-%m-%d} by",
        f"`python -m benchmarks.gpu {' '.join(sys.argv[1:])}`.",
        f"{gpu.name}, compute capability {gpu.capability}, driver {here.driver}, CUDA {here.cuda}; {target} "
        f"{FLAVOURS[target].version()}. Figures within one table were measured in one run.",
    ]
    about = {"Builds": builds_of, "Engines": engines_of, "Runner": runner_against_bare}
    for name, rows in tables.items():
        if rows:
            lines += ["", f"## {name}", "", str(getdoc(about[name])), ""]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
