"""What the scanner knows of one spec file, and how that survives a restart."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trtd.daemon.inputs import InputSet, Use
from trtd.daemon.keys import part_of, subject_key
from trtd.daemon.messages import Failure, Observed, SpecFacts
from trtd.daemon.settle import Settling
from trtd.daemon.spec_file import Reading, Signature
from trtd.status import Problem, fields_of, file_of

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
        told: what was last told of each of its subjects, by key; ``None`` before anything was. A file that was never
            without fault has one subject, by its own key.
        reading: what it said when it was last read; ``None`` before that.
        state: of the file then.
        settling: what is waited for before it is read; ``None`` if nothing.
        missing_mono_s: since when it is not there; ``None`` if it is.
        linked: real path of the folder that its file is in, if ``specs/`` has only a link to it.
        inputs_digest: of the listings that counted last, all together.
    """

    told: dict[str, Observed | None] = field(repr=False)
    reading: Reading | None = None
    state: FileState | None = None
    settling: Settling[FileState] | None = None
    missing_mono_s: float | None = None
    linked: str | None = None
    inputs_digest: str = ""

    @property
    def uses(self) -> tuple[Use, ...]:
        """What it reads beside itself, as far as is known."""
        return self.reading.uses if self.reading is not None else ()

    @property
    def has_facts(self) -> bool:
        """Whether it was without fault when it was last read."""
        return self.reading is not None and bool(self.reading.facts)

    def facts(self, key: str) -> SpecFacts | None:
        """What it said of one of its subjects when it was last read; ``None`` if it was at fault."""
        return dict(self.reading.facts).get(part_of(key)) if self.reading is not None else None

    def divide(self, file_key: str) -> list[str]:
        """Have the subjects that the last reading names; gives those that are no more. A fault leaves them alone."""
        if self.reading is None or not self.reading.facts:
            return []
        former, keys = self.told, [subject_key(file_key, part) for part, _ in self.reading.facts]
        self.told = {key: former.get(key) for key in keys}
        return [key for key in former if key not in self.told]


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


def recall(remembered: Iterable[tuple[str, str]]) -> dict[str, tuple[Record, dict[InputSet, str]]]:
    """The inverse of :func:`remember`, by file. What cannot be used, or is of another version, is found out anew.

    Args:
        remembered: keys of subjects, and what was remembered of the file of each.
    """
    found: dict[str, tuple[Record, dict[InputSet, str]]] = {}
    for key, text in remembered:
        file, made = file_of(key), _recalled(text)
        known, _ = found.setdefault(file, made)
        if known.reading is None:  # it could not be used, and its neighbour's may
            found[file] = made
            made[0].told = known.told
        known.told[key] = None
    for file, (record, _) in found.items():
        record.divide(file)
    return found


def _recalled(text: str) -> tuple[Record, dict[InputSet, str]]:
    record = Record({})
    try:
        data = json.loads(text)
        counted = {InputSet(kind, path, number): digest for kind, path, number, digest in data["counted"]}
        record.inputs_digest = str(data["inputs_digest"])
        if data["trtd"] == _WRITER and data["state"] and data["reading"]:
            record.state, record.reading = Signature(*data["state"]), _reading(data["reading"])
            record.linked = data["linked"]
    except (ValueError, TypeError, KeyError):
        return Record({}), {}
    return record, counted


def _shared(data: Any) -> Any:
    """The same, with one object for all strings that are equal: thousands of specs have the same words."""
    if isinstance(data, str):
        return sys.intern(data)
    if isinstance(data, list):
        return [_shared(item) for item in data]
    return {key: _shared(value) for key, value in data.items()} if isinstance(data, dict) else data


def _reading(data: dict[str, Any]) -> Reading:
    fault = data["fault"]
    uses: tuple[Use, ...] = tuple((InputSet(*input_set), tuple(key)) for input_set, key in _shared(data["uses"]))
    return Reading(
        digest=data["digest"],
        facts=tuple((part, _facts(facts)) for part, facts in _shared(data["facts"])),
        fault=Failure(Problem(**fault["problem"]), fault["retry"]) if fault else None,
        uses=uses,
    )


def _facts(data: dict[str, Any]) -> SpecFacts:
    engines = tuple((name, precision) for name, precision in data["engines"])
    return SpecFacts(**data | {"engines": engines, "capabilities": tuple(data["capabilities"])})
