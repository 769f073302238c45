"""Which precision a GPU computes fast, computes at all, or does not have: by target, version and compute capability.

Sources: NVIDIA TensorRT documentation, Support Matrix 8.5, 10.x and 11.x, "Hardware and Precision"; NVIDIA TensorRT-RTX
documentation, Support Matrix 1.0 to 1.7; and, where marked, measurements (``benchmarks/results/h200.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Support = Literal["fast", "runs", "absent"]

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8 convolution", "fp8")

_TURING: dict[str, Support] = {"tf32": "absent", "bf16": "absent", "fp8": "absent"}
_AMPERE: dict[str, Support] = {"fp8": "absent"}

# What differs from "fast", by compute capability.
_TENSORRT: dict[str, dict[str, Support]] = {
    "7.5": _TURING,
    "8.0": _AMPERE,
    "8.6": _AMPERE,
    "8.7": _AMPERE,
    "8.9": {},
    "9.0": {},
    "10.0": {},
    "12.0": {},
}
_RTX: dict[str, dict[str, Support]] = {
    "7.5": {**_TURING, "int8": "absent", "int8 convolution": "absent"},
    "8.0": _AMPERE,
    "8.6": _AMPERE,
    "8.9": {},
    "12.0": {},
    "12.1": {},
}

# The TensorRT 8 that Paddle 2.6 was built with serves older GPUs as well.
_TENSORRT_8: dict[str, dict[str, Support]] = {
    "5.3": {**_TURING, "int8": "absent", "int8 convolution": "absent"},
    "6.0": {**_TURING, "int8": "absent", "int8 convolution": "absent"},
    "6.1": {**_TURING, "fp16": "absent"},
    "7.0": {**_TURING, "int8": "runs", "int8 convolution": "runs"},
    "7.5": _TURING,
    "8.0": _AMPERE,
    "8.6": _AMPERE,
    "8.9": _AMPERE,
    "9.0": _AMPERE,
}
_TABLES = {"tensorrt-rtx": _RTX, "paddle-tensorrt": {**_TENSORRT, **_TENSORRT_8}}

# TensorRT-RTX before this builds no convolution of two int8 tensors (measured with 1.4, 1.5 and 1.6.1).
RTX_INT8_CONVOLUTION = (1, 7)
# It runs on compute capability 9.0 up to here, though no release lists that (measured with 1.4.0 and 1.6.1 on an H200).
_RTX_LAST_ON_HOPPER = (1, 6)


@dataclass(frozen=True)
class Hardware:
    """A GPU as one version of a target sees it.

    Attributes:
        listed: whether the vendor's documents list the capability. What they do not list may still run.
        support: for each of :data:`PRECISIONS`; empty if nothing is known.
    """

    capability: str
    listed: bool
    support: dict[str, Support]


def hardware(target: str, version: str, capability: str) -> Hardware:
    """What ``target`` in ``version`` (``1.6.1.120``) can do on GPUs of a compute capability (``8.9``)."""
    rtx = target == "tensorrt-rtx"
    known = _TABLES.get(target, _TENSORRT).get(capability)
    if known is None and rtx and capability == "9.0" and release(version) <= _RTX_LAST_ON_HOPPER:
        return Hardware(capability, False, _support({"fp8": "absent"}, rtx=rtx, version=version))
    if known is None:
        return Hardware(capability, False, {})
    return Hardware(capability, True, _support(known, rtx=rtx, version=version))


def _support(differing: dict[str, Support], *, rtx: bool, version: str) -> dict[str, Support]:
    made: dict[str, Support] = dict.fromkeys(PRECISIONS, "fast") | differing  # type: ignore[assignment]
    if rtx and not rtx_convolves_int8(version):
        made["int8 convolution"] = "absent"
    elif rtx and made["int8 convolution"] == "fast":
        made["int8 convolution"] = "runs"  # NVIDIA lists int8 for matrix products alone
    return made


def rtx_convolves_int8(version: str) -> bool:
    """Whether this version of TensorRT-RTX builds convolutions in 8 bits."""
    return release(version) >= RTX_INT8_CONVOLUTION


def release(version: str) -> tuple[int, int]:
    """``1.6.1.120`` as (1, 6); (0, 0) for what is no version."""
    parts = version.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else (0, 0)
