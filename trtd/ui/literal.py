"""Text that others wrote (names, paths, messages), made safe to show: nothing in it can act, everything can be seen."""

from __future__ import annotations

import unicodedata

# Controls, invisible formatting (bidi overrides, zero-width), lone surrogates, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: object, *, lines: bool = False) -> str:
    r"""``str(text)`` with every character that acts or cannot be seen written out: ``\x1b``, ``\u202e``, ``\n``.

    Args:
        text: anything; a path from the file system may hold lone surrogates, which could not be encoded.
        lines: keep line breaks (for messages of several lines). Names never need it.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    if lines:
        return "\n".join(visible(line) for line in plain.replace("\r\n", "\n").split("\n"))
    return "".join(_written_out(char) if unicodedata.category(char) in _UNSEEN else char for char in plain)


def encodable(text: str, encoding: str) -> str:
    r"""``text`` with what ``encoding`` lacks written out as ``\u2713``, so that printing it cannot fail."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
