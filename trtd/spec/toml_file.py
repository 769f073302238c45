"""From a file to a TOML table, or to what is wrong with it. Whatever stands at the path, the answer comes at once."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from trtd.errors import Diagnostic, SpecError
from trtd.spec.values import printable


@dataclass(frozen=True)
class Kind:
    """What a file is to its reader, for messages.

    Attributes:
        noun: ``spec``, as in "the limit for a spec".
        hint: where one is to be found.
        limit_bytes: the largest that is read.
    """

    noun: str
    hint: str
    limit_bytes: int


KINDS = {
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


def read_text(path: Path, kind: Kind) -> str:
    """The text of a regular UTF-8 file. Nothing else is opened, so nothing blocks.

    Raises:
        SpecError: with one diagnostic that says why there is no text.
    """
    file = printable(os.fspath(path))
    return _decode(_read(path, file, kind), file)


def parse(text: str, file: str) -> dict[str, Any]:
    """The table that a TOML text holds.

    Raises:
        SpecError: with one diagnostic that says where the text stops being TOML.
    """
    if match := _LONG_KEY.search(text):
        raise stop(file, "holds a key of more than 64 parts", _line_at(text, match.start()))
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = error.msg if len(error.msg) <= _LONGEST_TOML_MESSAGE else error.msg[:_LONGEST_TOML_MESSAGE] + "…"
        hint = next((hint for start, hint in _TOML_HINTS.items() if message.startswith(start)), "")
        sentence = message[:1].lower() + message[1:]
        raise stop(file, f"not valid TOML at column {error.colno}: {sentence}", error.lineno, hint=hint) from None
    except (RecursionError, MemoryError):
        raise stop(file, "lists or tables are nested too deeply", hint="three levels are plenty") from None
    except ValueError as error:  # int() refuses thousands of digits
        match = _LONG_INTEGER.search(text)
        line = _line_at(text, match.start()) if match else None
        reason = "holds a number of thousands of digits" if match else f"not valid TOML: {error}"
        raise stop(file, reason, line) from None


def stop(file: str, message: str, line: int | None = None, *, hint: str = "") -> SpecError:
    """The error for a file of which nothing more can be said."""
    return SpecError([Diagnostic(file, line, "", message, hint)])


def _read(path: Path, file: str, kind: Kind) -> bytes:
    """The bytes of a regular file, at most one more than the limit, without waiting for anybody."""
    try:
        _refuse_unless_regular(os.stat(path), file, kind)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            _refuse_unless_regular(os.fstat(handle), file, kind)
            raw = stream.read(kind.limit_bytes + 1)
    except FileNotFoundError:
        raise stop(file, "no such file", hint=kind.hint) from None
    except OSError as error:
        raise stop(file, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise stop(file, f"is no path: {error}") from None
    if raw is None:  # some files of /proc: there is nothing now, and waiting is out of the question
        raise stop(file, "cannot be read: nothing comes out of it", hint=kind.hint)
    if len(raw) > kind.limit_bytes:
        limit = f"{kind.limit_bytes // 2**20} MiB, the limit for a {kind.noun}"
        raise stop(file, f"is larger than {limit}", hint="data belongs in files of its own")
    return raw


def _refuse_unless_regular(status: os.stat_result, file: str, kind: Kind) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise stop(file, f"must be a file, but is {what}", hint=kind.hint)


def _decode(raw: bytes, file: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise stop(file, "is not UTF-8 but UTF-16", hint="save it as UTF-8")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise stop(file, "starts with a byte-order mark, which TOML forbids", 1, hint="save it as UTF-8 without BOM")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise stop(file, f"is not UTF-8: byte 0x{raw[error.start]:02x}", line, hint="save it as UTF-8") from None


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
