"""From a picture to the bytes that make a terminal show it: only lines that changed are written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from trtd.ui.dashboard.picture import Picture

_BEGIN, _END = b"\x1b[?2026h", b"\x1b[?2026l"  # shown at once where the terminal knows synchronized updates
_SAFE = frozenset("━╸─│╭╮╰╯■□●○▲▌✓✗→…·×–")  # one column in every terminal that is not set up for East Asia


class Painter:
    """Remembers what the terminal shows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._encoding = getattr(console.file, "encoding", None) or "utf-8"
        self._system = COLOR_SYSTEMS[console.color_system] if console.color_system else None
        self._shown: list[bytes] = []

    def forget(self) -> None:
        """The terminal may show anything: the next picture is written whole."""
        self._shown = []

    def paint(self, picture: Picture) -> bytes:
        """What to write; nothing if the picture is shown already."""
        lines = [self._line(line) for line in picture.lines]
        whole = len(lines) != len(self._shown)
        shown = [b""] * len(lines) if whole else self._shown
        changed = [
            f"\x1b[{row};1H".encode() + line
            for row, (line, former) in enumerate(zip(lines, shown, strict=True), 1)
            if line != former
        ]
        self._shown = lines
        if not changed:
            return b""
        return b"".join([_BEGIN, b"\x1b[0m\x1b[2J" if whole else b"", *changed, _END])

    def _line(self, text: Text) -> bytes:
        """A line whose parts stay in their columns whatever width the terminal gives to its characters.

        Terminals disagree about emoji, combining and ambiguous characters. After a part with any of them the cursor is
        sent to where the next part belongs, and the line is cleared first: what a narrower character leaves must not
        show what was there before.
        """
        segments: Sequence[Segment] = list(text.render(self._console))
        written, column, is_risky, lost = [], 0, False, False
        for content, style, _ in segments:
            if not content:
                continue
            if lost:
                written.append(f"\x1b[{column + 1}G")
            written.append(self._styled(content, style))
            lost = not content.isascii() and not _SAFE.issuperset(char for char in content if not char.isascii())
            is_risky = is_risky or lost
            column += Segment(content).cell_length
        line = "".join(["\x1b[2K" if is_risky else "", *written])
        return line.encode(self._encoding, "replace")

    def _styled(self, content: str, style: Style | None) -> str:
        if style is None:
            return content
        if self._console.no_color:
            style = style.without_color
        return style.render(content, color_system=self._system)
