"""Keys from the bytes that a terminal sends: names for those that write nothing, else the character itself."""

from __future__ import annotations

import codecs
import re

ESCAPE_S = 0.05
"""How long after an escape the rest of a sequence may come; a person pressing Esc sends nothing more."""

_LONGEST = 64
# ESC [ parameters intermediates final, or ESC O final. A Linux console sends ESC [ [ A for F1.
_SEQUENCE = re.compile(rb"\x1b(?:\[(?:\[.|[0-?]*[ -/]*[@-~])|O.)", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:\[(?:\[|[0-?]*[ -/]*)|O)?", re.DOTALL)
_FINALS = {
    b"A": "up",
    b"B": "down",
    b"C": "right",
    b"D": "left",
    b"H": "home",
    b"F": "end",
    b"Z": "backtab",
    b"M": "enter",
}
_TILDES = {b"1": "home", b"7": "home", b"4": "end", b"8": "end", b"5": "pgup", b"6": "pgdn", b"3": "delete"}
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x03": "ctrl-c",
    "\x0c": "ctrl-l", "\x15": "ctrl-u", "\x17": "ctrl-w", "\x02": "pgup", "\x06": "pgdn", "\x0e": "down", "\x10": "up",
}  # fmt: skip


class KeyReader:
    """Turns bytes, in whatever pieces they come, into keys."""

    def __init__(self) -> None:
        self._bytes = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def waits(self) -> bool:
        """Whether an escape has come that may be the beginning of a sequence: call :meth:`flush` after a while."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete now. Sequences that mean nothing here are dropped whole."""
        self._bytes += data
        keys: list[str] = []
        while self._bytes:
            plain, escape, _ = self._bytes.partition(b"\x1b")
            if plain:
                keys += self._typed(plain)
                self._bytes = self._bytes[len(plain) :]
            elif match := _SEQUENCE.match(self._bytes):
                keys += _named(match[0])
                self._bytes = self._bytes[match.end() :]
            elif escape and _UNFINISHED.fullmatch(self._bytes) and len(self._bytes) < _LONGEST:
                break
            else:  # Esc, and then something that belongs to no sequence
                keys.append("esc")
                self._bytes = self._bytes[1:]
        return keys

    def flush(self) -> list[str]:
        """Nothing more came: a lone escape is the key Esc, the torn beginning of a sequence is nothing."""
        lone, self._bytes = self._bytes == b"\x1b", b""
        return ["esc"] if lone else []

    def _typed(self, data: bytes) -> list[str]:
        keys = []
        for char in self._decoder.decode(data):
            if char in _CONTROLS:
                keys.append(_CONTROLS[char])
            elif char.isprintable() and char != "\N{REPLACEMENT CHARACTER}":
                keys.append(char)
        return keys


def _named(sequence: bytes) -> list[str]:
    final = sequence[-1:]
    if final == b"~":
        number = sequence[2:-1].split(b";")[0]
        return [_TILDES[number]] if number in _TILDES else []
    if sequence.startswith(b"\x1b[["):
        return []
    return [_FINALS[final]] if final in _FINALS else []
