"""From a file to a :class:`~trtd.spec.schema.Spec`, or to a list of everything that is wrong with it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from trtd.errors import Diagnostic, SpecError
from trtd.spec.fields import NAME_PATTERN
from trtd.spec.schema import Spec
from trtd.spec.values import literal, printable, slug

LIMIT_BYTES = 1 << 20
"""Largest spec; a thousand times what one needs."""

_SHORTEST = 'the shortest spec: model.path = "../models/NAME" and calibration.data = "../data/*.png"'
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST_TOML_MESSAGE = 160
_LONG_INTEGER = re.compile(r"[0-9][0-9_]{4000}")
# tomli takes quadratic time over keys of many parts. What stands before the first "=" of a line may be such a key.
_LONG_KEY = re.compile(r"^(?:[^\n=#.,]+\.){64}", re.MULTILINE)
_TOML_HINTS = {
    "Cannot overwrite a value": "the key was given before; remove one of the two",
    "Duplicate inline table key": "remove one of the two",
    "Cannot declare": "the section stands there twice; join the two",
    "Invalid value": 'texts need quotes: "…"',
    "Invalid statement": "a line is [section], key = value or # comment",
    "Expected '=' after a key": "a line is [section], key = value or # comment",
    "Unclosed array": "values have commas between them, and ] ends the list",
    "Unterminated string": "close the quotes",
    "Illegal character '\\n'": "close the quotes",
    "Unescaped '\\' in a string": "write \\\\ for a backslash, or use single quotes",
}


def load_spec(path: Path) -> Spec:
    """Read a spec. Its name, if it gives none, is the file's stem.

    Args:
        path: a regular file of at most 1 MiB, UTF-8 TOML. Nothing else is opened, so nothing blocks.

    Raises:
        SpecError: with a diagnostic for each fault that was found.
    """
    file = printable(os.fspath(path))
    return spec_from_text(_decode(_read(path, file), file), file=file, stem=path.stem)


def spec_from_text(text: str, *, file: str, stem: str) -> Spec:
    """Read a spec from TOML text.

    Args:
        text: the TOML.
        file: the name that diagnostics give to the text.
        stem: the spec's name, if it gives none.

    Raises:
        SpecError: with a diagnostic for each fault that was found.
    """
    document = _parse(text, file)
    if not document:
        raise _stop(file, "says nothing: it is empty, or all comments", hint=_SHORTEST)
    named = {"name": stem} | document
    try:
        return Spec.model_validate(named)
    except ValidationError as error:
        from trtd.spec.diagnose import diagnose

        diagnostics = diagnose(error, named, text, file)
    if "name" not in document and not re.fullmatch(NAME_PATTERN, stem):
        diagnostics = [_unfit_stem(file, stem) if found.key == "name" else found for found in diagnostics]
    raise SpecError(diagnostics)


def _read(path: Path, file: str) -> bytes:
    """The bytes of a regular file, at most one more than the limit, without waiting for anybody."""
    try:
        _refuse_unless_regular(os.stat(path), file)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            _refuse_unless_regular(os.fstat(handle), file)
            raw = stream.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise _stop(file, "no such file", hint="give the path of a spec, e.g. specs/NAME.toml") from None
    except OSError as error:
        raise _stop(file, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise _stop(file, f"is no path: {error}") from None
    if len(raw) > LIMIT_BYTES:
        raise _stop(file, "is larger than 1 MiB, the limit for a spec", hint="data belongs in files of its own")
    return raw


def _refuse_unless_regular(status: os.stat_result, file: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise _stop(file, f"must be a file, but is {kind}", hint="give the path of a spec, e.g. specs/NAME.toml")


def _decode(raw: bytes, file: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _stop(file, "is not UTF-8 but UTF-16", hint="save it as UTF-8")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise _stop(file, "starts with a byte-order mark, which TOML forbids", 1, hint="save it as UTF-8 without BOM")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _stop(file, f"is not UTF-8: byte 0x{raw[error.start]:02x}", line, hint="save it as UTF-8") from None


def _parse(text: str, file: str) -> dict[str, Any]:
    if match := _LONG_KEY.search(text):
        raise _stop(file, "holds a key of more than 64 parts", _line_at(text, match.start()))
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = error.msg if len(error.msg) <= _LONGEST_TOML_MESSAGE else error.msg[:_LONGEST_TOML_MESSAGE] + "…"
        hint = next((hint for start, hint in _TOML_HINTS.items() if message.startswith(start)), "")
        sentence = message[:1].lower() + message[1:]
        raise _stop(file, f"not valid TOML at column {error.colno}: {sentence}", error.lineno, hint=hint) from None
    except (RecursionError, MemoryError):
        raise _stop(file, "lists or tables are nested too deeply", hint="three levels are plenty") from None
    except ValueError as error:  # int() refuses thousands of digits
        match = _LONG_INTEGER.search(text)
        line = _line_at(text, match.start()) if match else None
        reason = "holds a number of thousands of digits" if match else f"not valid TOML: {error}"
        raise _stop(file, reason, line) from None


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _unfit_stem(file: str, stem: str) -> Diagnostic:
    message = f"missing, and the file's name {literal(stem)} cannot name an engine"
    return Diagnostic(file, None, "name", message, f'add name = "{slug(stem)}", or rename the file')


def _stop(file: str, message: str, line: int | None = None, *, hint: str = "") -> SpecError:
    return SpecError([Diagnostic(file, line, "", message, hint)])
