"""Plain lines and tables without any library, for commands that must start in a blink."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from trtd.ui import figures
from trtd.ui.literal import encodable

NARROWEST_LAST = 24

_GAP = "  "
_ASCII = str.maketrans({figures.TIMES: "x", figures.ABSENT: "-", "→": "->", "≈": "~", "∞": "inf", "…": "~"})


@dataclass(frozen=True)
class Column:
    """One column of a table. ``rank`` says how soon it is left out when width is short: highest first, 0 never."""

    title: str
    cells: tuple[str, ...]
    rank: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(cells, (self.title, *self.cells)))


def cells(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def table(columns: Sequence[Column], width: int | None) -> Iterator[str]:
    """Aligned rows under a head. The last column takes what room is left, and is cut if that is too little.

    Args:
        columns: all with as many cells; their texts must be fit to be shown.
        width: columns of the terminal; ``None``: nothing is cut or left out.
    """
    shown, widths = list(columns), {column.title: column.width for column in columns}

    def needed() -> int:
        *fixed, last = (widths[column.title] for column in shown)
        return sum(fixed) + len(_GAP) * len(fixed) + min(last, NARROWEST_LAST)

    while width is not None and needed() > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    titles = tuple(column.title for column in shown)
    for row in (titles, *zip(*(column.cells for column in shown), strict=True)):
        line = ""
        for text, column in zip(row, shown, strict=True):
            fill = " " * (widths[column.title] - cells(text))
            line += (fill + text if column.right else text + fill) + _GAP
        yield _cut(line.rstrip(), width)


def write_lines(lines: Iterable[str], file: TextIO) -> None:
    """Write lines of ours. Where the encoding is not a Unicode one, signs become ASCII, and the rest is written out."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    is_unicode = codecs.lookup(encoding).name.startswith("utf")
    for line in lines:
        file.write(encodable(line if is_unicode else line.translate(_ASCII), encoding) + "\n")


def _cut(line: str, width: int | None) -> str:
    if width is None or cells(line) <= width:
        return line
    kept, room = "", width - 1
    for character in line:
        room -= cells(character)
        if room < 0:
            break
        kept += character
    return f"{kept}…"
