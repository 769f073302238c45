"""The calibration table: what one pass over the calibration set found out about every tensor."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from trtd.document import Document
from trtd.errors import DataError, StorageError

Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile", "mse")
SCHEMA_VERSION = 1


class TensorRange(Document):
    """The observed range of one tensor and what each method would clip it to.

    Attributes:
        min: smallest value seen.
        max: largest value seen.
        values: how many values were seen.
        bin_width: width of every histogram bin; a power of two.
        first_bin: index of the first bin, so that bin ``i`` covers
            ``[(first_bin + i) * bin_width, (first_bin + i + 1) * bin_width)``.
        counts: the histogram.
        amax: per method, the largest magnitude kept by symmetric int8 (scale = amax / 127).
        range: per method, (low, high) kept by affine 8-bit (scale = (high - low) / 255); low <= 0 <= high.
    """

    min: float
    max: float
    values: int
    bin_width: float
    first_bin: int
    counts: tuple[int, ...]
    amax: dict[Method, float]
    range: dict[Method, tuple[float, float]]


class CalibrationTable(Document):
    """One file, ``calibration.json``, readable and versioned.

    Attributes:
        schema_version: of this format.
        model_digest: of the ONNX graph whose tensors are named here.
        set_digest: of the calibration set, after selection.
        samples: items that were run.
        percentile: the share, in percent, that the percentile method keeps.
        tensors: by tensor name.
    """

    schema_version: Literal[1] = 1
    model_digest: str
    set_digest: str
    samples: int
    percentile: float
    tensors: dict[str, TensorRange]


def write_table(table: CalibrationTable, path: Path) -> None:
    """Write a table as JSON with one line for each tensor. The file is complete or absent, at every instant.

    Raises:
        StorageError: the disk refused.
    """
    fields = table.model_dump(mode="python", exclude={"tensors"})
    head = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in fields.items()]
    rows = [f"    {json.dumps(name)}: {_line(tensor)}" for name, tensor in table.tensors.items()]
    text = "\n".join(["{", *head, '  "tensors": {', ",\n".join(rows), "  }", "}"]) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"cannot write the calibration table: {error.strerror}",
            where=str(path),
            hint="free some space" if full else "check that the folder exists and may be written",
        ) from error


def read_table(path: Path) -> CalibrationTable:
    """Read what :func:`write_table` wrote, exactly.

    Raises:
        DataError: the file is missing, torn, no calibration table, of another version, or contradicts itself.
    """
    where, again = str(path), "calibrate again: `trtd calibrate SPEC`"
    try:
        text = path.read_bytes().decode("utf-8")
        data = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise DataError(f"cannot read the table: {error.strerror}", where=where, hint=again) from error
    except (ValueError, RecursionError) as error:  # ValueError covers torn JSON, bad UTF-8, NaN and huge integers
        raise DataError(f"no JSON, or torn: {error}", where=where, hint=f"the file is damaged; {again}") from error
    if not isinstance(data, dict) or "schema_version" not in data or "tensors" not in data:
        raise DataError("this is no calibration table of trtd", where=where, hint=f"name another file, or {again}")
    if data["schema_version"] != SCHEMA_VERSION:
        raise DataError(
            f"the table has schema version {data['schema_version']!r}, this trtd reads {SCHEMA_VERSION}",
            where=where,
            hint=f"it was written by another version of trtd; {again}",
        )
    try:
        table = CalibrationTable.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"the table is malformed at {key}: {first['msg']}", where=where, hint=again) from error
    for name, tensor in table.tensors.items():
        if fault := _fault(tensor):
            raise DataError(f"tensor {name!r}: {fault}", where=where, hint=f"the file was changed; {again}")
    return table


def _line(tensor: TensorRange) -> str:
    return json.dumps(tensor.model_dump(mode="python"), separators=(",", ":"), allow_nan=False)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _fault(tensor: TensorRange) -> str:
    """What contradicts itself in a tensor's entry; empty if nothing does."""
    numbers = [tensor.min, tensor.max, tensor.bin_width, *tensor.amax.values()]
    numbers += [edge for edges in tensor.range.values() for edge in edges]
    if not all(map(math.isfinite, numbers)):
        return "a number is not finite"
    if tensor.min > tensor.max:
        return "min is greater than max"
    if tensor.bin_width <= 0 or math.frexp(tensor.bin_width)[0] != 0.5:
        return "bin_width is no power of two"
    if min(tensor.counts, default=0) < 0 or sum(tensor.counts) != tensor.values:
        return "counts do not add up to values"
    if set(tensor.amax) != set(METHODS) or set(tensor.range) != set(METHODS):
        return f"amax and range must hold {', '.join(METHODS)}"
    if min(tensor.amax.values()) <= 0:
        return "amax is not greater than zero"
    if any(not low <= 0 <= high or low == high for low, high in tensor.range.values()):
        return "a range does not include zero, or is empty"
    return ""
