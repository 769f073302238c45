"""Keys: names of spec files as text that can be stored, printed and typed, and back again."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
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
    """The file name that :func:`key_of` made ``key`` of."""
    return _ESCAPE.sub(_read, key) if "\\" in key else key


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
