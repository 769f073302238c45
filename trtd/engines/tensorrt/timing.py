"""TensorRT's timing cache: how long each kernel took on this GPU, so that the next build need not time it again.

TensorRT-RTX has none: the API exists there, makes the build look for a GPU, and changes nothing about the engine
(TensorRT-RTX documentation, release notes, "Limitations").
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtd.errors import EngineError


@dataclass
class TimingCache:
    """The timings that one build uses and adds to.

    Attributes:
        kept: file that they are written to; ``None`` to keep nothing.
        known: timings that there were before.
    """

    kept: Path | None
    known: int

    @classmethod
    def open(cls, config: Any, *, given: Path | None, kept: Path | None) -> TimingCache:
        """Give the builder the timings of both files. What is kept and cannot be used is begun anew.

        Raises:
            EngineError: ``given`` is no timing cache, or one of another TensorRT or GPU.
        """
        cache = config.create_timing_cache(given.read_bytes() if given is not None else b"")
        if cache is None or not config.set_timing_cache(cache, False):
            raise EngineError(
                "the timing cache is torn, or of another version of TensorRT or another GPU",
                where=str(given),
                hint="name one that this machine made, or remove timing_cache from [engine.tensorrt]",
            )
        if kept is not None and kept.is_file():
            earlier = config.create_timing_cache(kept.read_bytes())
            if earlier is None or not cache.combine(earlier, False):
                print(f"the timing cache {kept} cannot be used here, and is begun anew")
        return cls(kept, _count(cache))

    def save(self, config: Any) -> str:
        """Write the timings, all at once, and say what there is to tell of them."""
        cache = config.get_timing_cache()
        if self.kept is not None:
            replace_file(self.kept, bytes(cache.serialize()))
        return f"timing cache: {self.known} of {_count(cache)} kernel timings reused"


def _count(cache: Any) -> int:
    return len(cache.queryKeys())


def replace_file(path: Path, data: bytes) -> None:
    """Write a cache, complete or not at all. Without it nothing is lost but time, so errors are swallowed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
