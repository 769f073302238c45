"""How TOML values and keys are named in a message: as the author writes them, and never longer than a line."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Any

_LONGEST = 60
_BEYOND_64_BITS = 2**63


def described(value: Any) -> str:
    """A value and its kind: ``the text "500"``, ``a list of 3``."""
    if isinstance(value, bool):
        return literal(value)
    if isinstance(value, (int, float)):
        return "a number beyond 64 bits" if is_huge(value) else f"the number {literal(value)}"
    if isinstance(value, str):
        return f"the text {literal(value)}" if value else "an empty text"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "a table of keys"
    if isinstance(value, date):
        return f"the date {value}"
    return f"the time {value}" if isinstance(value, time) else "something else"


def is_huge(value: Any) -> bool:
    """Whether TOML has no such integer; Python may even refuse to print it."""
    return isinstance(value, int) and abs(value) >= _BEYOND_64_BITS


def literal(value: Any) -> str:
    """A text, number, boolean or list as TOML writes it, cut to a readable length, nothing unprintable in it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
        return '"' + "".join(_printable(character) for character in text) + '"'
    return str(value)


def _printable(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return printable(character)


def printable(text: str) -> str:
    r"""The text with all that a terminal would not show as a letter escaped; a byte that is not UTF-8 is ``\xff``."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # 0x80 to 0xff: how Python keeps undecodable bytes of file names
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode("ascii")


def dotted(path: tuple[str | int, ...]) -> str:
    """A key path as an author writes it: ``calibration.preprocess.mean[2]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else literal(part)
            text += f".{key}" if text else key
    return text


def slug(text: str) -> str:
    """The nearest valid name: ``My Spec (2)`` becomes ``my-spec-2``; ``engine`` if nothing is left."""
    from unicodedata import normalize

    plain = normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9._-]+", "-", plain).strip("._-")[:63].rstrip("._-") or "engine"


def nearest(word: str, known: list[str]) -> str:
    """The known word that was probably meant; empty if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), known, n=1) if len(word) <= _LONGEST else []
    return near[0] if near else ""
