"""Calibration tables as TensorRT writes them and Paddle keeps them, one for each subgraph, in ``_opt_cache``.

Their names are Paddle's business: they are found by what is there, never computed.
"""

from __future__ import annotations

from pathlib import Path

from trtd.calibrate.tensorrt_cache import read_cache, version_digits
from trtd.engines.digests import digest_of
from trtd.engines.paddle.settings import PaddleTable
from trtd.errors import EngineError

TABLE_PREFIX = "trt_calib_"


def tables_in(folder: Path) -> set[str]:
    """Names of the tables that are there and not empty."""
    return {file.name for file in folder.glob(f"{TABLE_PREFIX}*") if file.stat().st_size}


def read_table(path: Path) -> PaddleTable:
    """Read a table. Raises ``DataError`` if it is torn or empty."""
    cache = read_cache(path)
    header = f"TRT-{cache.version}-{cache.algorithm}"
    return PaddleTable(file=path.name, header=header, tensors=len(cache.scales), digest=digest_of(path))


def refuse_foreign(folder: Path, tensorrt: str) -> None:
    """Raise ``EngineError`` if a table in ``folder`` is of another TensorRT than the one that is here.

    TensorRT would not read it, and there is no data to make another: layers without ranges run in FP32 in silence.

    Args:
        tensorrt: version of the one that Paddle finds, ``8.5.3``; empty if it tells none.
    """
    for name in sorted(tables_in(folder)):
        of = read_cache(folder / name).version
        if tensorrt and of != version_digits(tensorrt):
            raise EngineError(
                f"the calibration tables are of another TensorRT ({of}) than the {tensorrt} that Paddle finds",
                where=str(folder / name),
                hint="build the engine with the TensorRT that is here: trtd build SPEC",
            )
