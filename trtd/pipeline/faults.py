"""Faults of a spec that show only beside its model, its folder and its machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from trtd.engines.gpu import gpus
from trtd.engines.hardware import hardware
from trtd.engines.table import paddle_release
from trtd.engines.tensorrt.flavours import FLAVOURS
from trtd.errors import Diagnostic, ModelError
from trtd.model.facts import ModelFacts
from trtd.model.source import ModelSource
from trtd.plan.shapes import Profile
from trtd.spec.fields import COMMON_PRECISIONS, OWN_PRECISIONS, PADDLE
from trtd.spec.lines import key_lines, line_of
from trtd.spec.paths import how_to_allow, is_inside
from trtd.spec.relations import CALIBRATE, NOT_CALIBRATED
from trtd.spec.schema import Spec
from trtd.spec.section import changed

NOT_OF_PIR = {
    "convert_to_mixed_precision": "leave it out: the predictor converts when it loads",
    "use_static": "leave it out: engines are always kept in a PIR program",
    "max_batch_size": "leave it out: max in [model.inputs] bounds the batch",
    "collect_shape_range_info": "leave it out: paddle.tensorrt.convert collects shapes by itself, of [model.inputs]",
    "exp_disable_tensorrt_subgraph": "name operators in exp_disable_tensorrt_ops: pd_op.NAME",
}
"""Options of ``[engine.paddle]`` that nothing reads for a PIR program, and what to do."""


def refuse_files_outside(source: ModelSource, roots: Sequence[Path]) -> None:
    """A model's folder may be allowed and a file in it be a link to elsewhere: raise ``ModelError`` for such."""
    for file in source.files:
        if not is_inside(file, roots):
            raise ModelError(
                f"leads outside the folders that this spec may read, to {file.resolve()}",
                where=str(file),
                hint=f"copy the file there, or {how_to_allow(file.resolve().parent, roots)}",
            )


def unknown_outputs(spec: Spec, facts: ModelFacts, spec_file: Path) -> list[Diagnostic]:
    """Gates for outputs that the model does not have: they would compare nothing, and nobody would notice."""
    known = [output.name for output in facts.outputs]
    faults = []
    for name in spec.verify.gates.outputs:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"its outputs are {', '.join(known)}"
            key = f"verify.gates.outputs.{name}"
            faults.append(Diagnostic(str(spec_file), None, key, "the model has no such output", hint))
    return faults


def unusable_hook(hook: Path | None, spec_file: Path, allowed: bool | None) -> list[Diagnostic]:
    """Told at once and not by the last stage. Nothing of the hook is run here.

    Args:
        allowed: what the operator fixed; ``None``: as the environment says.
    """
    if hook is None:
        return []
    from trtd.verify.task import HOOKS_ALLOWED, hooks_allowed  # only now: most specs have no hook

    if allowed is False:
        message = "is a Python hook, and the operator forbids those"
        hint = 'use "top1" or remove it, or ask the operator for [access] python_hooks = true in trtd.toml'
    elif allowed is None and not hooks_allowed():
        message = "is a Python hook, and hooks are off"
        hint = f"it runs with your rights; if you trust this spec: {HOOKS_ALLOWED}=1 trtd build SPEC"
    elif not hook.is_file():
        message, hint = f"there is no file {hook}", "paths are relative to the spec's folder"
    else:
        return []
    return [Diagnostic(str(spec_file), None, "verify.metric", message, hint)]


def uncalibrated(spec: Spec, facts: ModelFacts, spec_file: Path) -> list[Diagnostic]:
    """int8 needs data to calibrate on, or a table of who did, or a model that is quantized already."""
    section = spec.calibration
    if facts.quantized or "int8" not in spec.engine.precisions or (section and (section.data or section.table)):
        return []
    key = "calibration" if section is None else "calibration.data"
    return [Diagnostic(str(spec_file), None, key, NOT_CALIBRATED, CALIBRATE)]


def image_size_outside(spec: Spec, profiles: Mapping[str, Profile], spec_file: Path) -> list[Diagnostic]:
    """Images of a size that the engine is not made for would calibrate and judge something else."""
    preprocess = spec.calibration.preprocess if spec.calibration else None
    if preprocess is None or preprocess.resize is None or len(profiles) != 1:
        return []
    name, profile = next(iter(profiles.items()))
    start = 2 if preprocess.layout == "nchw" else 1
    low, high = profile.min[start : start + 2], profile.max[start : start + 2]
    if len(profile.opt) == 4 and not all(a <= b <= c for a, b, c in zip(low, preprocess.resize, high, strict=True)):
        message = f"is {preprocess.resize}, outside {list(low)} to {list(high)}, the sizes that input {name} takes"
        hint = f"change it, or min and max in [model.inputs.{name}]"
        return [Diagnostic(str(spec_file), None, "calibration.preprocess.resize", message, hint)]
    return []


def unservable(spec: Spec, facts: ModelFacts, spec_file: Path) -> list[Diagnostic]:
    """Precisions that the target does not have on the GPUs that the spec names, with what would serve."""
    target, capabilities = spec.engine.only_target, spec.engine.compute_capabilities
    flavour = FLAVOURS.get(target)
    version = flavour.version() if flavour is not None else None
    if flavour is None or version is None:  # what is missing here, the build tells
        return []
    faults = []
    for capability in capabilities or gpus().capabilities[:1]:
        if capabilities and flavour.capabilities and capability not in flavour.capabilities:
            message = f"{flavour.module} {version} builds no engines for {capability}"
            hint = f"it builds for {', '.join(flavour.capabilities)}; target tensorrt builds on such a GPU itself"
            faults.append(Diagnostic(str(spec_file), None, "engine.compute_capabilities", message, hint))
            continue
        support = hardware(target, version, capability).support
        if flavour.capabilities and not support:
            message = f"is {target}, and {flavour.module} {version} runs on no GPU of compute capability {capability}"
            hint = 'use target = "tensorrt", or name the GPUs that it is for: compute_capabilities = ["8.9"]'
            faults.append(Diagnostic(str(spec_file), None, "engine.target", message, hint))
            continue
        for precision in spec.engine.precisions:
            needed = "int8 convolution" if precision == "int8" and _only_convolves(facts) else precision
            if support.get(needed) == "absent":
                message = f"{needed} does not exist on compute capability {capability} with {flavour.module} {version}"
                hint = (
                    f"it has {', '.join(p for p in COMMON_PRECISIONS if p != precision and support.get(p) != 'absent')}"
                )
                faults.append(Diagnostic(str(spec_file), None, "engine.precision", message, hint))
    return faults


def unservable_by_paddle(
    spec: Spec, facts: ModelFacts, profiles: Mapping[str, Profile], spec_file: Path
) -> list[Diagnostic]:
    """What Paddle would do in silence, or crash at, and not what the spec asks for."""
    if spec.engine.only_target not in PADDLE:
        return []
    faults = [*_paddle_faults(spec, facts), *_paddle_batch(spec, facts, profiles)]
    return [Diagnostic(str(spec_file), None, *fault) for fault in faults]


def _paddle_faults(spec: Spec, facts: ModelFacts) -> Iterator[tuple[str, str, str]]:
    target, int8 = spec.engine.only_target, "int8" in spec.engine.precisions
    if facts.format == "onnx":
        hint = 'use target = "tensorrt", or give the Paddle model that it was exported from'
        yield "model.path", f"is an ONNX model, which {target} cannot run", hint
        return
    pir, release = facts.format == "paddle-pir", paddle_release()
    if pir and release is not None and release < (3, 0):
        hint = "export it with FLAGS_enable_pir_api=0, which gives a .pdmodel; or install Paddle 3"
        yield "model.path", f"is a PIR program (.json), at which Paddle {release[0]}.{release[1]} crashes", hint
    yield from _paddle_hardware(spec)
    given, scaled = spec.engine.paddle.use_calib_mode, facts.quantized or spec.quantization.producer == "paddle-ptq"
    if target == "paddle-tensorrt" and int8:
        if given is False and not scaled:
            hint = "leave use_calib_mode out: a float model must be calibrated; or give a quantized model"
            what = "is false for a float model: Paddle would run it in FP32 and not say so"
            yield "engine.paddle.use_calib_mode", what, hint
        if given is True and scaled:
            hint = "leave use_calib_mode out: a quantized model has its own scales"
            yield "engine.paddle.use_calib_mode", "is true for a quantized model: Paddle would calibrate it anew", hint
        if pir and not facts.quantized:
            hint = "export it with FLAGS_enable_pir_api=0, which gives a .pdmodel; or quantize it with Paddle"
            yield "model.path", "is a PIR program (.json), for which TensorRT in Paddle has no calibration", hint
    for option in changed(spec.engine.paddle) if pir else ():
        if option in NOT_OF_PIR:
            yield f"engine.paddle.{option}", "is for .pdmodel programs; this is PIR (.json)", NOT_OF_PIR[option]


def _paddle_batch(spec: Spec, facts: ModelFacts, profiles: Mapping[str, Profile]) -> Iterator[tuple[str, str, str]]:
    """TensorRT builds for batches of ``profiles``, and calibrates with what is fed."""
    if spec.engine.only_target != "paddle-tensorrt" or "int8" not in spec.engine.precisions or facts.quantized:
        return
    batch, taken = spec.calibration.batch if spec.calibration else 1, [p for p in profiles.values() if p.max]
    low, high = max((p.min[0] for p in taken), default=1), min((p.max[0] for p in taken), default=1)
    leaves_open = any(tensor.shape and tensor.shape[0] is None for tensor in facts.inputs)
    if leaves_open and not low <= batch <= high:
        what = f"is {batch}, and the engine takes batches of {low} to {high}"
        yield "calibration.batch", what, "change it, or min and max in [model.inputs]"


def _paddle_hardware(spec: Spec) -> Iterator[tuple[str, str, str]]:
    """Whether the GPU supports the precision, which the guide asks to check first; of Paddle's own kernels, bf16."""
    asked = spec.engine.precisions
    if spec.engine.only_target == "paddle":
        asked = tuple(precision for precision in asked if precision == "bf16")
    for capability in gpus().capabilities[:1]:
        support = hardware("paddle-tensorrt", "", capability).support
        for precision in asked:
            if support.get(precision) == "absent":
                known = OWN_PRECISIONS.get(spec.engine.only_target, COMMON_PRECISIONS)
                others = [p for p in known if p != precision and support.get(p) != "absent"]
                what = f"{precision} does not exist on compute capability {capability}"
                yield "engine.precision", what, f"it has {', '.join(others)}"


def _only_convolves(facts: ModelFacts) -> bool:
    """Whether convolutions are all that could run in 8 bits, as Paddle and ONNX name them."""
    names = [op.rpartition(".")[2].lower() for op in facts.ops]
    dense = any(name.startswith(("matmul", "gemm", "mul", "fc", "linear", "addmm")) for name in names)
    return any("conv" in name for name in names) and not dense


def with_lines(spec_file: Path, faults: Sequence[Diagnostic]) -> list[Diagnostic]:
    """The same faults with the line that each key stands on."""
    try:
        lines = key_lines(spec_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a published engine's spec file may be gone, or be something else by now
        lines = {}
    return [replace(fault, line=line_of(lines, _key_path(fault.key))) for fault in faults]


def _key_path(key: str) -> tuple[str, ...]:
    for tables in ("model.inputs.", "verify.gates.outputs."):
        if key.startswith(tables):
            return (*tables.rstrip(".").split("."), key.removeprefix(tables))
    return tuple(key.split("."))
