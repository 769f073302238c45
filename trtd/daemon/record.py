"""What the scanner knows of one spec file, and how that survives a restart."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trtd.daemon.inputs import InputSet, Use
from trtd.daemon.keys import name_of
from trtd.daemon.messages import Failure, Observed, SpecFacts
from trtd.daemon.settle import Settling
from trtd.daemon.spec_file import Reading, Signature
from trtd.status import Problem, fields_of

FileState = Signature | int
"""What a look at a file gave: its signature, or the number of the error."""

try:
    _WRITER = version("trtd")
except PackageNotFoundError:
    _WRITER = "unknown"


@dataclass(slots=True)
class Record:
    """One spec file.

    Attributes:
        name: in ``specs/``, undecodable bytes as lone surrogates.
        reading: what it said when it was last read; ``None`` before that.
        state: of the file then.
        settling: what is waited for before it is read; ``None`` if nothing.
        missing_mono_s: since when it is not there; ``None`` if it is.
        linked: real path of the folder that its file is in, if ``specs/`` has only a link to it.
        inputs_digest: of the listings that counted last, all together.
        told: what was last told of it.
    """

    name: str
    reading: Reading | None = None
    state: FileState | None = None
    settling: Settling[FileState] | None = None
    missing_mono_s: float | None = None
    linked: str | None = None
    inputs_digest: str = ""
    told: Observed | None = field(default=None, repr=False)


def remember(record: Record, counted: Mapping[InputSet, str]) -> str:
    """The record as JSON, pure ASCII. ``counted``: digests of the listings that counted last."""
    reading = record.reading if record.reading is not None and record.reading.lasting else None
    return json.dumps(
        {
            "trtd": _WRITER,
            "state": record.state if isinstance(record.state, tuple) else None,
            "reading": reading,
            "linked": record.linked,
            "inputs_digest": record.inputs_digest,
            "counted": [[*input_set, digest] for input_set, digest in counted.items()],
        },
        separators=(",", ":"),
        default=fields_of,
    )


def recall(key: str, text: str) -> tuple[Record, dict[InputSet, str]]:
    """The inverse of :func:`remember`. What cannot be used, or is of another version of trtd, is found out anew."""
    record = Record(name_of(key))
    try:
        data = json.loads(text)
        counted = {InputSet(kind, path, number): digest for kind, path, number, digest in data["counted"]}
        record.inputs_digest = str(data["inputs_digest"])
        if data["trtd"] == _WRITER and data["state"] and data["reading"]:
            record.state, record.reading = Signature(*data["state"]), _reading(data["reading"])
            record.linked = data["linked"]
    except (ValueError, TypeError, KeyError):
        return Record(name_of(key)), {}
    return record, counted


def _shared(data: Any) -> Any:
    """The same, with one object for all strings that are equal: thousands of specs have the same words."""
    if isinstance(data, str):
        return sys.intern(data)
    if isinstance(data, list):
        return [_shared(item) for item in data]
    return {key: _shared(value) for key, value in data.items()} if isinstance(data, dict) else data


def _reading(data: dict[str, Any]) -> Reading:
    facts, fault = _shared(data["facts"]), data["fault"]
    uses: tuple[Use, ...] = tuple((InputSet(*input_set), tuple(key)) for input_set, key in _shared(data["uses"]))
    return Reading(
        digest=data["digest"],
        facts=SpecFacts(**facts | {"engines": tuple((n, p) for n, p in facts["engines"])}) if facts else None,
        fault=Failure(Problem(**fault["problem"]), fault["retry"]) if fault else None,
        uses=uses,
    )
