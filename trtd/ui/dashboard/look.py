"""What can be shown on the terminal at hand: signs and their ASCII forms, foreign text made safe, exact widths."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.text import Text

from trtd.ui import figures
from trtd.ui.literal import encodable, visible

# One cell each on both sides where a column's width depends on it; only arrows and relations grow, inside sentences.
_ASCII = str.maketrans(
    {
        figures.TIMES: "x", figures.ABSENT: "-", "→": "->", "≥": ">=", "≤": "<=", "≈": "~", "∞": "inf", "·": "-",
        "…": "~", "✓": "+", "✗": "x", "●": "*", "○": "o", "▲": "!", "◆": "#", "↻": "~", "■": "#", "□": ".", "▌": ">",
        "↑": "^", "↓": "v", "←": "<", "━": "=", "╸": "=", "─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
    }
)  # fmt: skip
_BAR = Style(color="bright_white", bgcolor="#2f3b52")
_REVERSE = Style(reverse=True, bold=True)


@dataclass(frozen=True)
class Look:
    """What the terminal can show.

    Attributes:
        encoding: of the stream.
        unicode: whether signs and frames may be more than ASCII.
        deep: whether it has colours enough for a background of our own; else a selected row is shown reversed.
    """

    encoding: str = "utf-8"
    unicode: bool = True
    deep: bool = True

    @classmethod
    def of(cls, console: Console) -> Look:
        encoding = getattr(console.file, "encoding", None) or "utf-8"
        unicode = codecs.lookup(encoding).name.startswith("utf")
        return cls(encoding, unicode, not console.no_color and console.color_system in ("256", "truecolor"))

    def own(self, text: str, style: str = "") -> Text:
        """Text of ours, whose signs have ASCII forms."""
        return Text(self.signs(text), style, no_wrap=True, end="")

    def foreign(self, text: object, style: str = "") -> Text:
        """What others wrote, shown literally, on one line."""
        return Text(self.literal(text), style, no_wrap=True, end="")

    def prose(self, text: str, style: str = "") -> Text:
        """A sentence of ours with names of others in it, on one line."""
        return Text(self.literal(self.signs(text)), style, no_wrap=True, end="")

    def signs(self, text: str) -> str:
        return text if self.unicode else text.translate(_ASCII)

    def literal(self, text: object) -> str:
        return encodable(visible(text), self.encoding)

    def fitted(self, text: Text, width: int, *, right: bool = False) -> Text:
        """``text`` in exactly ``width`` terminal columns: cut with an ellipsis, or filled with blanks."""
        width, length = max(width, 0), text.cell_len
        if length == width:
            return text
        line = text.copy()
        if length > width:
            line.truncate(width, overflow="ellipsis" if self.unicode else "crop")
            length = line.cell_len
        if missing := width - length:
            line.pad_left(missing) if right else line.pad_right(missing)
        return line

    def short(self, text: object, width: int, style: str = "") -> Text:
        """Foreign text of at most ``width`` columns."""
        found = self.foreign(text, style)
        return found if found.cell_len <= width else self.fitted(found, width)

    def tail(self, text: object, width: int, style: str = "") -> Text:
        """Foreign text of which the end matters, as of a path: cut at its beginning."""
        plain, more = self.literal(text), self.signs("…")
        if cell_len(plain) <= width:
            return Text(plain, style, no_wrap=True, end="")
        while plain and cell_len(plain) > max(width - 1, 0):
            plain = plain[1:]
        return Text(f"{more}{plain}"[: max(width, 0)], style, no_wrap=True, end="")

    def ends(self, text: object, width: int, style: str = "") -> Text:
        """Foreign text of which both ends matter, as of ``NAME-TARGET``: cut in its middle."""
        plain = self.literal(text)
        if cell_len(plain) <= width:
            return Text(plain, style, no_wrap=True, end="")
        head = Text(set_cell_size(plain, max(width - 1, 0) // 2), style, no_wrap=True, end="")
        return head.append_text(self.tail(text, width - head.cell_len, style))

    def folded(
        self, text: str, width: int, style: str = "", *, most: int | None = None, sign: bool = True
    ) -> list[Text]:
        """Several lines of at most ``width`` columns, broken between words where it can be.

        Args:
            text: foreign text, or with ``sign`` a sentence of ours; its line breaks are kept.
            most: lines; what is left over is told by an ellipsis.
        """
        width, lines = max(width, 1), []
        for paragraph in text.replace("\r\n", "\n").split("\n"):
            lines += _words(self.literal(self.signs(paragraph) if sign else paragraph), width)
        if most is not None and len(lines) > most:
            lines = lines[:most]
            if lines:
                last = self.fitted(Text(lines[-1]), min(cell_len(lines[-1]), width - 1)).plain.rstrip()
                lines[-1] = last + self.signs("…")
        return [Text(line, style, no_wrap=True, end="") for line in lines]

    def selected(self, line: Text) -> Text:
        """A row as the selected one."""
        if self.deep:
            line.style = _BAR
            return line
        return Text(line.plain, _REVERSE, no_wrap=True, end="")


def _words(line: str, width: int) -> list[str]:
    """``line`` in pieces of at most ``width`` columns. Its indentation stays; a word too long for a line is folded."""
    if cell_len(line) <= width:
        return [line]
    indent = min(len(line) - len(line.lstrip(" ")), width // 2)
    pieces: list[str] = []
    current, used = " " * indent, indent
    for word in line.split():
        need = cell_len(word)
        if used > indent and used + 1 + need > width:
            pieces.append(current)
            current, used = " " * indent, indent
        if used + need > width:
            *full, rest = chop_cells(word, width - indent)
            pieces += [" " * indent + part for part in full]
            current, used = " " * indent + rest, indent + cell_len(rest)
            continue
        gap = " " if used > indent else ""
        current, used = current + gap + word, used + len(gap) + need
    return [*pieces, current] if current.strip() or not pieces else pieces
