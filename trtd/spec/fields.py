"""The kinds of values that stand in a spec, each with its bounds and its own way to say no."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from trtd.spec.section import refuse
from trtd.spec.values import described, literal, nearest

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
CAPABILITY_PATTERN = r"^[1-9][0-9]?\.[0-9]$"
HOOK_PATTERN = r"^(top1|[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*)$"
LARGEST = 2**31 - 1

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
Target = Literal["onnxruntime-cpu", "tensorrt", "tensorrt-rtx", "paddle", "paddle-tensorrt"]
TARGETS: tuple[Target, ...] = ("onnxruntime-cpu", "tensorrt", "tensorrt-rtx", "paddle", "paddle-tensorrt")
TENSORRT: tuple[Target, ...] = ("tensorrt", "tensorrt-rtx")
PADDLE: tuple[Target, ...] = ("paddle", "paddle-tensorrt")
# Of each target, where those are not fp32, fp16 and int8.
OWN_PRECISIONS: dict[Target, tuple[Precision, ...]] = {"paddle": ("fp32", "fp16", "bf16")}
COMMON_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
HardwareCompatibility = Literal["none", "same-compute-capability", "ampere-plus"]
Method = Literal["minmax", "entropy", "percentile", "mse"]
Fit = Literal["stretch", "crop", "letterbox"]
Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]
Activation = Literal["auto", "uint8", "int8"]
PtqAlgorithm = Literal["abs_max", "avg", "hist", "mse", "emd", "KL"]

CHANNEL_COUNT: dict[Channels, int] = {"rgb": 3, "bgr": 3, "gray": 1}

_READY_MADE = (".plan", ".engine", ".trt")


def _usable_path(text: str) -> str:
    if not text.strip():
        raise refuse("must not be empty")
    if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        message = f"must not hold control characters, got {described(text)}"
        raise refuse(message, "for a backslash write \\\\, or use single quotes")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        message = f"must be a path, got the web address {literal(text)}"
        raise refuse(message, "download it and give the path of the file")
    if text.startswith("~"):
        message = f"must not start with ~, got {described(text)}"
        raise refuse(message, "write the path in full, or from the spec's folder")
    return text


def _source_model(text: str) -> str:
    if text.lower().rstrip("/").endswith(_READY_MADE):
        raise refuse(
            f"must be a source model, got the ready-made TensorRT engine {literal(text)}",
            "give the model that it was built from: a Paddle model (.json or .pdmodel, or its folder) or .onnx",
        )
    return text


def _version(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        message = f'must be a whole number from 1, or "latest", got {described(value)}'
        raise refuse(message, "for example: version = 3") from None


def _one_or_several(known: tuple[str, ...], key: str) -> WrapValidator:
    """For a value out of ``known`` or a list of such, in our own words; ``key`` is shown in the hint."""
    choices = ", ".join(literal(name) for name in known)

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            made = handler(value)
        except ValidationError:
            texts = isinstance(value, list) and all(isinstance(v, str) for v in value)
            got = literal(value) if texts else described(value)
            near = nearest(value, list(known)) if isinstance(value, str) else ""
            hint = f"did you mean {literal(near)}?" if near else f"for example: {key} = {literal(list(known[1:]))}"
            raise refuse(f"must be one of {choices}, or a list of them, got {got}", hint) from None
        if isinstance(made, list) and len(set(made)) < len(made):
            raise refuse(f"must name each {key} once, got {literal(made)}", "remove what stands twice")
        return made

    return WrapValidator(validate)


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_usable_path)]
ModelPath = Annotated[PathText, AfterValidator(_source_model)]
Text = Annotated[str, Field(min_length=1)]
Hook = Annotated[str, Field(pattern=HOOK_PATTERN)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Version = Annotated[Count | Literal["latest"], WrapValidator(_version)]
Precisions = Annotated[
    Precision | Annotated[list[Precision], Field(min_length=1, json_schema_extra={"uniqueItems": True})],
    _one_or_several(PRECISIONS, "precision"),
]
Targets = Annotated[
    Target | Annotated[list[Target], Field(min_length=1, json_schema_extra={"uniqueItems": True})],
    _one_or_several(TARGETS, "target"),
]
Capability = Annotated[str, Field(pattern=CAPABILITY_PATTERN)]
Dimensions = Annotated[list[Count], Field(min_length=1)]
HeightWidth = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=2)]
Positive = Annotated[float, Field(gt=0)]
