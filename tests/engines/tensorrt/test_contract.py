"""Names that trtd and the stand-in use, held against the real bindings of TensorRT 10, 11 and TensorRT-RTX.

TensorRT's bindings are small and on PyPI, its libraries are neither: libraries of empty functions let them be imported.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3]
TENSORRT = SOURCE / "trtd" / "engines" / "tensorrt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trtd-tests"
VERSIONS = ("10.13.3.9", "10.16.1.11", "11.4.0.106")
LIBRARIES = ("libnvinfer.so", "libnvonnxparser.so", "libnvinfer_plugin.so")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "getInferLibVersion",
)
# Only TensorRT-RTX has these; they stand behind Flavour.compiles_on_load or Flavour.capabilities.
ONLY_RTX = {
    "ComputeCapability",
    "DynamicShapesKernelSpecializationStrategy",
    "num_compute_capabilities",
    "set_compute_capability",
    "create_runtime_cache",
    "dynamic_shapes_kernel_specialization_strategy",
    "set_runtime_cache",
    "deserialize",
    "is_stream_capturable",
}
OBJECTS = {
    "Builder": "builder",
    "INetworkDefinition": "network",
    "OnnxParser": "parser",
    "ParserError": "error",
    "IBuilderConfig": "config",
    "IOptimizationProfile": "profile",
    "ICudaEngine": "_engine",
    "IExecutionContext": "_context",
    "Runtime": "_runtime",
    "IRuntimeConfig": "runtime_config",
    "ITimingCache": "cache",
    "EngineInspector": "inspector",
}


def used_names() -> tuple[set[str], set[str]]:
    """What trtd takes from the module, as dotted paths; and every attribute that it asks of anything there."""
    module: set[str] = set()
    attributes: set[str] = set()
    for file in TENSORRT.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                path = ast.unparse(node)
                if path.startswith("trt."):
                    module.add(path.removeprefix("trt."))
                attributes.add(node.attr)
    return module, attributes


@pytest.fixture(scope="session")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not here to make empty libraries with")
    folder = tmp_path_factory.mktemp("stub-libraries")
    source = folder / "empty.c"
    source.write_text("".join(f"void* {name}() {{ return 0; }}\n" for name in FUNCTIONS))
    for major in (10, 11):
        for library in LIBRARIES:
            out = folder / f"{library}.{major}"
            command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{out.name}", "-o", str(out), str(source)]
            subprocess.run(command, check=True)
    return folder


def bindings(version: str) -> Path:
    """The unpacked wheel of TensorRT's bindings, without the package that looks for its libraries."""
    folder = CACHE / f"tensorrt-bindings-{version}-cp{sys.version_info.major}{sys.version_info.minor}"
    if not folder.is_dir():
        wheels = folder.with_name(f"{folder.name}-wheel")
        what = f"tensorrt-cu13-bindings=={version}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
        if subprocess.run([*command, what], capture_output=True).returncode:
            pytest.skip(f"{what} cannot be fetched for this Python")
        draft = folder.with_name(f".{folder.name}.{os.getpid()}")
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            wheel.extractall(draft)
        if not folder.is_dir():
            draft.rename(folder)
    return folder


LOOK = """
import ctypes, glob, importlib.util, json, sys
folder, libraries, major = sys.argv[1:4]
for library in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
    ctypes.CDLL(f"{libraries}/{library}.so.{major}", mode=ctypes.RTLD_GLOBAL)
(file,) = glob.glob(f"{folder}/tensorrt_bindings/tensorrt*.so")
spec = importlib.util.spec_from_file_location("tensorrt_bindings.tensorrt", file)
trt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trt)
def found(path):
    here = trt
    for part in path.split("."):
        if not hasattr(here, part):
            return False
        here = getattr(here, part)
    return True
asked = json.load(sys.stdin)
members = {name for kind in vars(trt).values() if isinstance(kind, type) for name in dir(kind)}
print(json.dumps({"module": [p for p in asked["module"] if not found(p)],
                  "methods": [n for n in asked["methods"] if n not in members]}))
"""


def methods_of_the_stand_in() -> set[str]:
    """Public methods and properties of the stand-in's classes, those of its own left out."""
    tree = ast.parse((SOURCE / "tests" / "stand_in_gpu" / "stand_in_tensorrt.py").read_text())
    own = {"layers"}
    return {
        item.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
    } - own


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt_has_every_name_that_is_used(version: str, stub_libraries: Path) -> None:
    """A name that a version removed fails on the user's GPU box, after a long calibration, and nowhere else."""
    module, attributes = used_names()
    methods = (methods_of_the_stand_in() & attributes) - ONLY_RTX
    wanted = {
        "module": sorted(path for path in module if path.split(".")[0] not in ONLY_RTX and path != "__version__"),
        "methods": sorted(methods),
    }
    assert len(wanted["module"]) > 15
    assert len(wanted["methods"]) > 30
    command = [
        sys.executable,
        "-c",
        LOOK,
        str(bindings(version)),
        str(stub_libraries),
        version.split(".", maxsplit=1)[0],
    ]
    done = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"module": [], "methods": []}


def test_tensorrt_rtx_has_every_name_that_is_used() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    module, attributes = used_names()
    members = {name for kind in vars(trt).values() if isinstance(kind, type) for name in dir(kind)}
    missing = []
    for path in module - {"__name__"}:
        here = trt
        for part in path.split("."):
            here = getattr(here, part, None)
        missing += [path] if here is None else []
    assert missing == []
    assert sorted((methods_of_the_stand_in() & attributes) - members) == []


def test_bindings_without_their_libraries_are_told_from_bindings_that_are_not_there(tmp_path: Path) -> None:
    """The wheels of TensorRT's bindings install without its libraries; "No module named tensorrt" would mislead."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file: No such file or directory')\n"
    )
    program = (
        "import sys; from trtd.engines.tensorrt.flavours import FLAVOURS\n"
        "from trtd.errors import EnvironmentMissing\n"
        "try: FLAVOURS['tensorrt'].load()\n"
        "except EnvironmentMissing as error: print(error.message); print(error.hint)\n"
    )
    for path, said in ((tmp_path, "its libraries cannot be loaded: libnvinfer.so.10"), (SOURCE, "is not installed")):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(SOURCE)])}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert said in done.stdout
        assert "pip install 'trtd[gpu]'" in done.stdout
