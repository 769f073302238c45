"""Every backend, in one table that imports none of them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

from trtd.engines.cpu import cpu_facts


@dataclass(frozen=True)
class Backend:
    """One target as the rest of the program sees it.

    Attributes:
        distributions: packages whose version an engine of this target depends on.
        model_file: name of the file that is published and loaded.
        fingerprint: properties of the device that change what is built, as text.
        device: what the device is called.
    """

    distributions: tuple[str, ...]
    model_file: str
    fingerprint: Callable[[], dict[str, str]]
    device: Callable[[], str]


def _cpu_fingerprint() -> dict[str, str]:
    return {"machine": platform.machine(), "vnni": "yes" if cpu_facts().vnni else "no"}


BACKENDS: dict[str, Backend] = {
    "onnxruntime-cpu": Backend(
        distributions=("onnxruntime",),
        model_file="model.onnx",
        fingerprint=_cpu_fingerprint,
        device=lambda: cpu_facts().model,
    ),
}
