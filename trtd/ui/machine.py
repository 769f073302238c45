"""What ``--json`` prints: one JSON document in one envelope, and nothing else.

Imports the standard library only, so that the cheapest commands stay cheap.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, TextIO

from trtd.errors import TrtdError

SCHEMA_VERSION = 1


def emit(command: str, data: Any, file: TextIO | None = None) -> None:
    """Print ``{"schema_version": 1, "command": …, "ok": true, "data": …}``; ``file`` defaults to standard output.

    Raises:
        TypeError: ``data`` holds something that has no JSON form (our bug, not the user's).
    """
    _write({"schema_version": SCHEMA_VERSION, "command": command, "ok": True, "data": data}, file)


def emit_error(command: str, error: TrtdError, file: TextIO | None = None, *, data: Any = None) -> None:
    """Print ``{…, "ok": false, "error": …, "exit_code": n}``; ``data`` is what was found all the same, if anything."""
    envelope = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "ok": False,
        "error": error.to_json(),
        "exit_code": error.exit_code,
    }
    _write(envelope if data is None else envelope | {"data": data}, file)


def plain(value: Any) -> Any:
    r"""``value`` as what JSON can say. Not-a-number and infinities become strings, as in every trtd document.

    Pydantic models, dataclasses and numpy scalars and arrays are recognised by their shape: importing their libraries
    to ask would cost more than the command. Lone surrogates (undecodable file names) are written out as ``\udc80``.

    Raises:
        TypeError: a value has no JSON form.
    """
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else _name_of(value)
        case os.PathLike():
            return plain(os.fspath(value))
        case datetime() | date():
            return value.isoformat()
        case Mapping():
            return {_key(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case AbstractSet():
            return sorted((plain(item) for item in value), key=repr)
    return plain(_unpacked(value))


def _unpacked(value: Any) -> Any:
    """One layer off a foreign object: model or dataclass to dict, numpy to Python."""
    if isinstance(value, type):
        raise TypeError(f"a class has no JSON form: {value!r}")
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="python")
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _key(key: Any) -> str:
    text = plain(key)
    return text if isinstance(text, str) else json.dumps(text)


def _write(envelope: dict[str, Any], file: TextIO | None) -> None:
    stream = file if file is not None else sys.stdout
    indent = 2 if stream.isatty() else None
    stream.write(json.dumps(plain(envelope), indent=indent, allow_nan=False) + "\n")
    stream.flush()
