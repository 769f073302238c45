"""TensorRT's calibration cache as text, from and to a calibration table.

The first line is ``TRT-<version>-<algorithm>``; each further one ``tensor: 8 hex digits``, the float32 ``amax / 127``
with its most significant byte first. TensorRT up to 10 reads and writes it; in 11 calibrators are gone. Sources: caches
that TensorRT 8.6 wrote, and Paddle's ``trt_int8_calibrator.cc``, which stores such text as it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trtd.calibrate.methods import ZERO_AMAX
from trtd.calibrate.table import METHODS, CalibrationTable, Method, TensorRange
from trtd.errors import DataError, UsageError

LEVELS = 127
ALGORITHMS: dict[Method, str] = {
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration2",
    "percentile": "EntropyCalibration2",
    "mse": "EntropyCalibration2",
}
"""What a cache must call itself for the calibrator of that kind to read it; TensorRT has none for the last two."""

_HEADER = re.compile(r"TRT-(\w+)-(\w+)\s*")
_LINE = re.compile(r"(.+): ([0-9a-fA-F]{8})\s*")


@dataclass(frozen=True)
class TensorRTCache:
    """A cache.

    Attributes:
        version: digits of the TensorRT that wrote it, ``8601``.
        algorithm: of its calibrator.
        scales: ``amax / 127`` by tensor, each exactly a float32.
    """

    version: str
    algorithm: str
    scales: dict[str, float]


def is_cache(head: bytes) -> bool:
    """Whether a file that begins so is a calibration cache of TensorRT."""
    return head.startswith(b"TRT-")


def read_cache(path: Path) -> TensorRTCache:
    """Read a cache. Raises ``DataError`` naming the line that is none."""
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the cache: {error}", where=str(path), hint="name a calibration cache") from error
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        hint = "its first line is like TRT-8601-EntropyCalibration2"
        raise DataError("this is no calibration cache of TensorRT", where=str(path), hint=hint)
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        scale = float(struct.unpack(">f", bytes.fromhex(match[2]))[0]) if match else -1.0
        if match is None or not 0 <= scale < float("inf"):
            what = f"line {number} is not 'tensor: 8 hex digits' of a scale: {line[:80]!r}"
            raise DataError(
                what, where=str(path), hint="the cache is torn; calibrate again with TensorRT, or with data"
            )
        scales[match[1]] = scale
    if not scales:
        raise DataError("the cache holds no tensor", where=str(path), hint="calibrate again; it was broken off")
    return TensorRTCache(header[1], header[2], scales)


def write_cache(scales: Mapping[str, float], *, version: str, algorithm: str) -> str:
    """The text of a cache; ``version`` as ``TRT_VERSION`` digits."""
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([f"TRT-{version}-{algorithm}", *lines]) + "\n"


def version_digits(version: str) -> str:
    """``8.6.1`` as 8601, ``10.3.0`` as 100300: TensorRT counts ``NV_TENSORRT_VERSION`` in hundreds from 10 on."""
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.\d+)?", version)
    if match is None:
        raise UsageError(f"{version!r} is no version of TensorRT", hint="for example 8.6.1 or 10.3.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    if major > 10:
        hint = "its engines take their scales from Q/DQ in the graph: trtd build does that from the table itself"
        raise UsageError(f"TensorRT {major} reads no calibration caches", hint=hint)
    return str(major * 10000 + minor * 100 + patch) if major >= 10 else str(major * 1000 + minor * 100 + patch)


def scales_of(table: CalibrationTable, method: Method) -> dict[str, float]:
    """The symmetric scale of every tensor by one method."""
    return {name: tensor.amax[method] / LEVELS for name, tensor in table.tensors.items()}


def table_of(
    cache: TensorRTCache, *, needed: Iterable[str], known: Iterable[str], model_digest: str, digest: str, where: str
) -> CalibrationTable:
    """The ranges of a cache as a table of this network; all methods give the cache's own range.

    Args:
        needed: tensors that must have a range.
        known: all tensors of the network.
        model_digest: of its graph.
        digest: of the cache, which takes the place of a calibration set's.

    Raises:
        DataError: the cache is of another network; the message names the tensors that differ.
    """
    wanted = list(needed)
    missing = [name for name in wanted if name not in cache.scales]
    if missing:
        unknown = sorted(cache.scales.keys() - set(known))
        raise DataError(
            f"the cache is of another network: it lacks {_listed(missing)}"
            + (f", and has {_listed(unknown)}, which this network has not" if unknown else ""),
            where=where,
            hint="names are those of the ONNX graph: take the cache that was made with this very model",
        )
    return CalibrationTable(
        model_digest=model_digest,
        set_digest=digest,
        samples=0,
        percentile=99.99,
        tensors={name: _range(cache.scales[name]) for name in wanted},
    )


def _range(scale: float) -> TensorRange:
    amax = scale * LEVELS or ZERO_AMAX  # exact: 24 bits times 7 fit into a double
    return TensorRange(
        min=-amax,
        max=amax,
        values=0,
        bin_width=1.0,
        first_bin=0,
        counts=(),
        amax=dict.fromkeys(METHODS, amax),
        range=dict.fromkeys(METHODS, (-amax, amax)),
    )


def _listed(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
