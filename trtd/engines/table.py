"""Every backend, in one table that imports none of them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from trtd.engines.cpu import cpu_facts
from trtd.engines.gpu import gpus
from trtd.engines.hardware import release, rtx_convolves_int8
from trtd.engines.paddle.nvinfer import tensorrt_library
from trtd.engines.tensorrt.flavours import FLAVOURS, Flavour
from trtd.errors import EnvironmentMissing

PADDLE_GPU = "paddlepaddle-gpu"
PADDLE_DISTRIBUTIONS = (PADDLE_GPU, "paddlepaddle")

Capabilities = Sequence[str]
"""Compute capabilities that a spec names; empty for those of this machine's GPU, and for backends without."""


@dataclass(frozen=True)
class Backend:
    """One target as the rest of the program sees it.

    Attributes:
        family: what engines are made of: an ONNX graph, or the Paddle model itself.
        distributions: packages whose version an engine of this target depends on.
        model_file: name of the file that is published and loaded.
        compiles: the engine is compiled from the graph in its precision; else it is that graph.
        symmetric: activations are int8 with zero point 0, whatever the spec says.
        native_fp16: computes FP16 as such, so that FP16 should be faster than FP32.
        always_tf32: whether it computes FP32 as TF32 here, whatever the spec says.
        fingerprint: properties of the device that change what is built, as text.
        device: what the device is called.
        missing: what keeps this machine from building in a precision for those capabilities; ``None`` if nothing does.
        unverifiable: what keeps it from running the engine; empty if nothing does.
        builds_on: UUIDs of the GPUs that building takes; none on a CPU, and where it is done ahead of time.
        runs_on: UUID of the GPU that the engine runs on here; empty on a CPU, and where no GPU fits.
    """

    family: Literal["graph", "paddle"]
    distributions: tuple[str, ...]
    model_file: str
    compiles: bool
    symmetric: bool
    native_fp16: bool
    always_tf32: Callable[[], bool]
    fingerprint: Callable[[Capabilities], dict[str, str]]
    device: Callable[[], str]
    missing: Callable[[Capabilities, str], EnvironmentMissing | None]
    unverifiable: Callable[[Capabilities], str]
    builds_on: Callable[[Capabilities], tuple[str, ...]]
    runs_on: Callable[[Capabilities], str]


def _cpu_fingerprint(capabilities: Capabilities) -> dict[str, str]:
    return {"machine": platform.machine(), "vnni": "yes" if cpu_facts().vnni else "no"}


def _gpu_name() -> str:
    return ", ".join(dict.fromkeys(gpu.name for gpu in gpus().found)) or "no GPU"


def _paddle_fingerprint() -> dict[str, str]:
    if not paddle_on_gpu():
        return {"machine": platform.machine()}
    here = gpus()
    return {"gpu": f"{here.found[0].name} ({here.found[0].capability})", "driver": here.driver}


def _paddle_tf32() -> bool:
    """Paddle lets cuBLAS and cuDNN do so on every GPU that can. Source: ``phi/backends/context_pool.cc``."""
    return paddle_on_gpu() and release(gpus().found[0].capability) >= (8, 0)


def _paddle_missing(precision: str) -> EnvironmentMissing | None:
    """Paddle has fp32 everywhere, and everything else on GPUs alone."""
    return None if precision == "fp32" else paddle_gpu_missing("paddle", f" in {precision}")


def paddle_on_gpu() -> bool:
    """Whether Paddle can run on a GPU here: the package with GPUs is installed, and there is one."""
    return paddle_gpu_missing("paddle", "") is None


def _paddle_gpu() -> str:
    """The first: Paddle is told to take device 0."""
    return gpus().found[0].uuid if paddle_on_gpu() else ""


def paddle_release() -> tuple[int, int] | None:
    """Of whichever Paddle is installed; ``None`` if none is."""
    for distribution in PADDLE_DISTRIBUTIONS:
        try:
            return release(version(distribution))
        except PackageNotFoundError:
            continue
    return None


def paddle_gpu_missing(target: str, how: str) -> EnvironmentMissing | None:
    """What keeps Paddle from running on a GPU here."""
    try:
        version(PADDLE_GPU)
    except PackageNotFoundError:
        hint = "pip install paddlepaddle-gpu in the place of paddlepaddle: docs/how-to/verify-on-your-gpu.md"
        return EnvironmentMissing(f"target {target}{how} needs {PADDLE_GPU}", hint=hint, where=target)
    here = gpus()
    if not here.found:
        what = f"target {target}{how} runs on a GPU, and there is none here: {here.reason}"
        return EnvironmentMissing(what, hint="build where one is", where=target)
    return None


def _tensorrt(flavour: Flavour) -> Backend:
    return Backend(
        family="graph",
        distributions=flavour.distributions,
        model_file="model.plan",
        compiles=True,
        symmetric=True,
        native_fp16=True,
        always_tf32=lambda: flavour.target == "tensorrt-rtx",
        fingerprint=lambda capabilities: _gpu_fingerprint(flavour, capabilities),
        device=_gpu_name,
        missing=lambda capabilities, precision: _gpu_missing(flavour, capabilities),
        unverifiable=_gpu_unverifiable,
        builds_on=lambda capabilities: _gpus_to_build_on(flavour, capabilities),
        runs_on=_gpu_to_run_on,
    )


def _gpu_fingerprint(flavour: Flavour, capabilities: Capabilities) -> dict[str, str]:
    """What is built ahead of time does not depend on the GPU that happens to be here."""
    facts = {}
    if flavour.target == "tensorrt-rtx":
        facts["int8_convolution"] = "yes" if rtx_convolves_int8(flavour.version() or "") else "no"
    if capabilities and flavour.capabilities:
        return facts
    here = gpus()
    used = [gpu for gpu in here.found if not capabilities or gpu.capability in capabilities]
    names = sorted({f"{gpu.name} ({gpu.capability})" for gpu in used[: None if capabilities else 1]})
    return facts | {"gpu": ", ".join(names) or "none", "driver": here.driver or "none"}


def _gpu_missing(flavour: Flavour, capabilities: Capabilities) -> EnvironmentMissing | None:
    if flavour.version() is None:
        hint = f"pip install 'trtd[{flavour.extra}]'"
        return EnvironmentMissing(f"target {flavour.target} needs {flavour.module}", hint=hint, where=flavour.target)
    if capabilities and flavour.capabilities:
        return None
    here = gpus()
    if not here.found:
        hint = 'build where one is, or ahead of time for GPUs that you name: target = "tensorrt-rtx" and '
        hint += 'compute_capabilities = ["8.6"] in [engine]'
        what = f"target {flavour.target} builds on a GPU, and there is none here: {here.reason}"
        return EnvironmentMissing(what, hint=hint, where=flavour.target)
    absent = [c for c in capabilities if c not in here.capabilities]
    if absent:
        what = f"there is no GPU of compute capability {', '.join(absent)} here: {', '.join(here.capabilities)}"
        return EnvironmentMissing(what, hint="name those that are here, or build where they are", where=flavour.target)
    return None


def _gpu_unverifiable(capabilities: Capabilities) -> str:
    here = gpus()
    if not here.found:
        return f"there is no GPU here: {here.reason}"
    if capabilities and not set(capabilities) & set(here.capabilities):
        return f"the GPU here has compute capability {', '.join(here.capabilities)}, not {' or '.join(capabilities)}"
    return ""


def _gpus_to_build_on(flavour: Flavour, capabilities: Capabilities) -> tuple[str, ...]:
    if capabilities and flavour.capabilities:
        return ()
    firsts = [_gpu_to_run_on((capability,)) for capability in capabilities] or [_gpu_to_run_on(())]
    return tuple(dict.fromkeys(filter(None, firsts)))


def _gpu_to_run_on(capabilities: Capabilities) -> str:
    """The first that fits, as :func:`trtd.engines.tensorrt.cuda.take_device` takes it."""
    return next((gpu.uuid for gpu in gpus().found if not capabilities or gpu.capability in capabilities), "")


_PADDLE = Backend(
    family="paddle",
    distributions=PADDLE_DISTRIBUTIONS,
    model_file="engine.json",
    compiles=True,
    symmetric=True,
    native_fp16=True,
    always_tf32=_paddle_tf32,
    fingerprint=lambda capabilities: _paddle_fingerprint(),
    device=lambda: _gpu_name() if paddle_on_gpu() else cpu_facts().model,
    missing=lambda capabilities, precision: _paddle_missing(precision),
    unverifiable=lambda capabilities: "",
    builds_on=lambda capabilities: tuple(filter(None, [_paddle_gpu()])),
    runs_on=lambda capabilities: _paddle_gpu(),
)

BACKENDS: dict[str, Backend] = {
    "onnxruntime-cpu": Backend(
        family="graph",
        distributions=("onnxruntime",),
        model_file="model.onnx",
        compiles=False,
        symmetric=False,
        native_fp16=False,
        always_tf32=lambda: False,
        fingerprint=_cpu_fingerprint,
        device=lambda: cpu_facts().model,
        missing=lambda capabilities, precision: None,
        unverifiable=lambda capabilities: "",
        builds_on=lambda capabilities: (),
        runs_on=lambda capabilities: "",
    ),
    **{name: _tensorrt(flavour) for name, flavour in FLAVOURS.items()},
    "paddle": _PADDLE,
    "paddle-tensorrt": replace(
        _PADDLE,
        always_tf32=lambda: True,
        fingerprint=lambda capabilities: _paddle_fingerprint() | {"tensorrt": tensorrt_library() or "not found"},
        device=_gpu_name,
        missing=lambda capabilities, precision: paddle_gpu_missing("paddle-tensorrt", ""),
        unverifiable=_gpu_unverifiable,
    ),
}
