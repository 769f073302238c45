"""Keys: names of spec files as text that can be stored, printed and typed, and back again.

A subject is a spec on a target. Its key is the file's if the spec names one target, as text; for each target of a list
the target stands behind it, ``det.toml#tensorrt``. No file is meant by that: names of specs end with ``.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from trtd.status import file_of

_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_MOST_NAMED = 5
_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF


def is_spec_name(name: str) -> bool:
    """Whether a name in ``specs/`` is a spec's. Hidden files and what editors leave (``x.toml~``, ``4913``) are not."""
    return name.endswith(".toml") and not name.startswith(".")


def key_of(name: str) -> str:
    r"""The key of a file name: printable, valid UTF-8, and different for different names.

    A byte that is not UTF-8 becomes ``\xff``; line ends, escapes, marks that turn the direction of writing and
    everything else that is not printable become ``\u202e``; a backslash is doubled.

    Args:
        name: as :func:`os.scandir` gives it, undecodable bytes as lone surrogates.
    """
    return name if name.isprintable() and "\\" not in name else "".join(map(_written_out, name))


def name_of(key: str) -> str:
    """The file name that :func:`key_of` made the key of, be it a file's or a subject's."""
    key = file_of(key)
    return _ESCAPE.sub(_read, key) if "\\" in key else key


def subject_key(file_key: str, part: str) -> str:
    """The key of a subject; ``part`` is its target in a list of them, empty for a spec with one target as text."""
    return f"{file_key}#{part}" if part else file_key


def part_of(key: str) -> str:
    """The inverse of :func:`subject_key`, beside :func:`trtd.status.file_of`."""
    return key[len(file_of(key)) + 1 :]


def is_of_file(key: str, name: str) -> bool:
    """Whether ``name`` is that of the subject's spec file, with or without ``.toml``."""
    return file_of(key) in (name, f"{name}.toml")


def several(name: str, found: Mapping[str, str]) -> tuple[str, str]:
    """That a name means several subjects, given by key and name, and what to say instead."""
    if len({file_of(key) for key in found}) == 1:
        return f"{name} is built for several targets: {_few(found.values())}", "name one of them"
    return f"several specs claim the name {name}: {_few(found)}", "say the file's name instead"


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MOST_NAMED]) + (", …" if len(ordered) > _MOST_NAMED else "")


def stem_of(key: str) -> str:
    """What a subject is called whose spec cannot be read: ``det``, ``det-tensorrt``."""
    stem, part = file_of(key).removesuffix(".toml"), part_of(key)
    return f"{stem}-{part}" if part else stem


def _written_out(character: str) -> str:
    code = ord(character)
    if _FIRST_SURROGATE <= code <= _LAST_SURROGATE:  # how Python keeps the undecodable bytes 0x80 to 0xff
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _read(match: re.Match[str]) -> str:
    byte, short, long = match.groups()
    if byte:
        return chr(0xDC00 + int(byte, 16))
    return chr(int(short or long, 16)) if short or long else "\\"
