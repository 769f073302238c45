"""Rules over several keys of ``[engine]``: targets, precisions, and options that only some of them read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trtd.spec.fields import COMMON_PRECISIONS, OWN_PRECISIONS, PADDLE, TARGETS, TENSORRT
from trtd.spec.section import Fault, changed, relation

if TYPE_CHECKING:
    from trtd.spec.engine import EngineSection

FULL_TENSORRT = ("timing_cache", "version_compatible", "hardware_compatibility", "tf32")
"""TensorRT-RTX has none of these: it times no kernels, its engines run on all GPUs of a capability, FP32 is TF32."""
PADDLE_MIXED = "convert_to_mixed_precision"
PADDLE_KERNELS = ("memory_pool_init_size_mb", PADDLE_MIXED)
"""Options that Paddle reads without TensorRT."""


@relation("target", "compute_capabilities")
def capabilities_of_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """Other backends do not build for a compute capability; and each is built once."""
    given = engine.compute_capabilities
    if given and not set(engine.targets) & set(TENSORRT):
        hint = 'remove it, or set target = "tensorrt-rtx"'
        yield Fault(("compute_capabilities",), f"is for targets {', '.join(TENSORRT)}", hint)
    if len(set(given)) < len(given):
        yield Fault(("compute_capabilities",), "names a capability twice", "remove what stands twice")


@relation("target", "precision")
def precisions_of_target(engine: EngineSection) -> Iterator[Fault]:
    """Not every target has every precision."""
    for target in engine.targets:
        known = OWN_PRECISIONS.get(target, COMMON_PRECISIONS)
        for precision in engine.precisions:
            if precision not in known:
                others = [t for t in TARGETS if precision in OWN_PRECISIONS.get(t, COMMON_PRECISIONS)]
                hint = f"{target} has {', '.join(known)}; {precision} is for {', '.join(others)}"
                yield Fault(("precision",), f"has {precision}, which target {target} has not", hint)


@relation("target", "paddle")
def options_of_paddle(engine: EngineSection) -> Iterator[Fault]:
    """Options that nothing reads would change nothing, and nobody would notice."""
    if changed(engine.paddle) and not set(engine.targets) & set(PADDLE):
        yield Fault(("paddle",), f"is for targets {', '.join(PADDLE)}", 'remove the section, or set target = "paddle"')


@relation("target", "precision", "paddle")
def options_of_paddle_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """Paddle's own kernels know none of TensorRT's options, and TensorRT converts no weights in the file."""
    given = changed(engine.paddle)
    if not set(engine.targets) & set(PADDLE):
        return
    for key in given:
        if key not in PADDLE_KERNELS and "paddle-tensorrt" not in engine.targets:
            yield Fault(
                ("paddle", key), "is for target paddle-tensorrt", 'remove it, or set target = "paddle-tensorrt"'
            )
    if PADDLE_MIXED in given:
        mixed = {"fp16", "bf16"} & set(engine.precisions)
        if "paddle" not in engine.targets or not mixed:
            hint = 'remove it, or set target = "paddle" and precision = "fp16"'
            yield Fault(("paddle", PADDLE_MIXED), "is for fp16 and bf16 of target paddle", hint)
    if engine.paddle.use_calib_mode is not None and "int8" not in engine.precisions:
        yield Fault(("paddle", "use_calib_mode"), "is for int8, which is not asked for", "remove it")


@relation("target", "tensorrt")
def options_of_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """Options that nothing reads would change nothing, and nobody would notice."""
    if changed(engine.tensorrt) and not set(engine.targets) & set(TENSORRT):
        hint = 'remove the section, or set target = "tensorrt"'
        yield Fault(("tensorrt",), f"is for targets {', '.join(TENSORRT)}", hint)


@relation("target", "tensorrt")
def options_of_full_tensorrt(engine: EngineSection) -> Iterator[Fault]:
    """TensorRT-RTX would be asked for what it does not have."""
    for key in FULL_TENSORRT:
        if key in changed(engine.tensorrt) and "tensorrt" not in engine.targets:
            hint = 'remove it, or set target = "tensorrt"'
            yield Fault(("tensorrt", key), "is for target tensorrt alone", hint)
