"""The TensorRT library that Paddle will load, found without loading it: engines and tables are of one version."""

from __future__ import annotations

import os
from pathlib import Path

LIBRARY = "libnvinfer.so"  # Paddle opens this name, unversioned
FLAG = "FLAGS_tensorrt_dir"
_SYSTEM = ("/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def tensorrt_library() -> str:
    """What the name leads to, and its size: ``libnvinfer.so.8.5.3, 479822360 bytes``; empty if it is nowhere usual.

    Paddle looks where :data:`FLAG` says, then where the loader does, of which the cache is not read here.
    """
    named = [os.environ.get(FLAG, ""), *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    for folder in (*filter(None, named), *_SYSTEM):
        file = Path(folder) / LIBRARY
        try:
            size_bytes = file.stat().st_size
            return f"{file.resolve().name}, {size_bytes} bytes"
        except OSError:
            continue
    return ""
