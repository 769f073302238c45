"""Whether the wheel is here that these tests are about."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

WHEEL = "2.6.2"


def need_the_wheel() -> None:
    """Skip the module that calls this, where another Paddle is installed, or none."""
    try:
        found = version("paddlepaddle-gpu")
    except PackageNotFoundError:
        found = "none"
    if found != WHEEL:
        pytest.skip(f"make test-paddle-gpu runs it with paddlepaddle-gpu {WHEEL}", allow_module_level=True)
