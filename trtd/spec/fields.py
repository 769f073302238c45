"""The kinds of values that stand in a spec, each with its bounds and its own way to say no."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from trtd.spec.section import refuse
from trtd.spec.values import described, literal

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
HOOK_PATTERN = r"^(top1|[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*)$"
LARGEST = 2**31 - 1

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Target = Literal["onnxruntime-cpu"]
Method = Literal["minmax", "entropy", "percentile", "mse"]
Fit = Literal["stretch", "crop", "letterbox"]
Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]
Activation = Literal["auto", "uint8", "int8"]

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


def _precision(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    choices = ", ".join(literal(name) for name in PRECISIONS)
    try:
        made = handler(value)
    except ValidationError:
        got = literal(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else described(value)
        message = f"must be one of {choices}, or a list of them, got {got}"
        raise refuse(message, 'for example: precision = ["fp16", "int8"]') from None
    if isinstance(made, list) and len(set(made)) < len(made):
        raise refuse(f"must name each precision once, got {literal(made)}", "remove what stands twice")
    return made


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_usable_path)]
ModelPath = Annotated[PathText, AfterValidator(_source_model)]
Text = Annotated[str, Field(min_length=1)]
Hook = Annotated[str, Field(pattern=HOOK_PATTERN)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Version = Annotated[Count | Literal["latest"], WrapValidator(_version)]
Precisions = Annotated[
    Precision | Annotated[list[Precision], Field(min_length=1, json_schema_extra={"uniqueItems": True})],
    WrapValidator(_precision),
]
Dimensions = Annotated[list[Count], Field(min_length=1)]
HeightWidth = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=2)]
Positive = Annotated[float, Field(gt=0)]
