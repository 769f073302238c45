"""Which line of a TOML text each key stands on.

tomli gives values without positions, so this walks the text once more, statement by statement. It only runs when there
is something to report. What stands inside a value (an inline table, an array) belongs to the line of its key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import tomli

from trtd.spec.section import KeyPath

_DEEPEST = 16
"""Longer paths are recorded only so far; no key of a spec lies that deep."""

_BLANK = re.compile(r"[ \t\r\n]*")
_KEY_PART = re.compile(
    r"""[ \t]*(?:
        (?P<bare>[A-Za-z0-9_-]+) | (?P<basic>"[^"\\\n]*(?:\\.[^"\\\n]*)*") | '(?P<literal>[^'\n]*)'
    )[ \t]*(?P<dot>\.?)""",
    re.VERBOSE,
)
_OF_VALUE = re.compile(r"""["'#\[\]{}\n]""")
_CLOSING = {
    '"': re.compile(r'\\.|"', re.DOTALL),
    '"""': re.compile(r'\\.|"{3,5}', re.DOTALL),
    "'": re.compile(r"'"),
    "'''": re.compile(r"'{3,5}"),
}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every key path of a valid TOML text to its 1-based line.

    Elements of an array of tables have their index in the path: ``("layers", 0, "name")``. A table that is declared
    both by its own header and by the header of a child has the line of its own.
    """
    return _Walk(text).lines()


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of ``path``, or else of its nearest parent that stands in the text; ``None`` if there is none."""
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.stated: dict[KeyPath, int] = {}
        self.implied: dict[KeyPath, int] = {}
        self.last_index: dict[KeyPath, int] = {}

    def lines(self) -> dict[KeyPath, int]:
        position, line, header = 0, 1, KeyPath()
        while (start := self._after_blank(position)) < len(self.text):
            line += self.text.count("\n", position, start)
            position = start
            if self.text[start] == "[":
                header = self._enter(start, line)
            elif self.text[start] != "#":
                key, start = self._key(start)
                self._record(header + key, line)
                start = self._value_end(start)
            end = self._line_end(start)
            line += self.text.count("\n", position, end)
            position = end
        return self.implied | self.stated

    def _after_blank(self, position: int) -> int:
        match = _BLANK.match(self.text, position)
        return match.end() if match else position

    def _line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def _enter(self, position: int, line: int) -> KeyPath:
        """Record a ``[table]`` or ``[[array of tables]]`` header and return its full path."""
        is_array = self.text.startswith("[[", position)
        key, _ = self._key(position + (2 if is_array else 1))
        path = KeyPath()
        for part in key[:-1] if is_array else key:
            path = self._newest((*path, part))
        if is_array:
            path = (*path, *key[-1:])
            self.stated.setdefault(path, line)
            self.last_index[path] = self.last_index.get(path, -1) + 1
            path = self._newest(path)
        self._record(path, line)
        return path

    def _newest(self, path: KeyPath) -> KeyPath:
        return (*path, self.last_index[path]) if path in self.last_index else path

    def _record(self, path: KeyPath, line: int) -> None:
        for end in range(1, min(len(path), _DEEPEST)):
            self.implied.setdefault(path[:end], line)
        if len(path) <= _DEEPEST:
            self.stated.setdefault(path, line)

    def _key(self, position: int) -> tuple[KeyPath, int]:
        """The dotted key at ``position``, and where it ends."""
        parts: list[str] = []
        while match := _KEY_PART.match(self.text, position):
            parts.append(_plain(match))
            position = match.end()
            if not match["dot"]:
                break
        return tuple(parts), position

    def _value_end(self, position: int) -> int:
        """Where the line ends on which the value at ``position`` ends."""
        depth = 0
        while match := _OF_VALUE.search(self.text, position):
            mark, position = match[0], match.end()
            if mark in "\"'":
                position = self._string_end(match.start())
            elif mark == "#":
                position = self._line_end(position)
            elif mark == "\n" and depth == 0:
                return match.start()
            else:
                depth += (mark in "[{") - (mark in "]}")
        return len(self.text)

    def _string_end(self, position: int) -> int:
        quote = self.text[position]
        opening = quote * 3 if self.text.startswith(quote * 3, position) else quote
        closings = _CLOSING[opening].finditer(self.text, position + len(opening))
        return next((match.end() for match in closings if match[0][0] == quote), len(self.text))


def _plain(part: re.Match[str]) -> str:
    if part["basic"] is not None:
        return str(tomli.loads(f"key = {part['basic']}")["key"])
    return part["bare"] if part["bare"] is not None else part["literal"]
