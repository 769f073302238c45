"""Which interpreter converts Paddle models, and with what versions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

CONVERTER_PYTHON = "TRTD_CONVERTER_PYTHON"
"""Environment variable: a Python 3.10 to 3.12 with paddlepaddle and paddle2onnx, where this one cannot have them."""


def converter_versions(distributions: Sequence[str]) -> dict[str, str]:
    """Versions in the other interpreter, by distribution; empty if there is none, or if it cannot be asked."""
    python = os.environ.get(CONVERTER_PYTHON)
    if not python:
        return {}
    import subprocess  # only now: almost nobody sets the variable

    script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    found = {}
    for name in distributions:
        with suppress(OSError):
            done = subprocess.run([python, "-c", script, name], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found[name] = done.stdout.strip()
    return found
