"""Lines and blocks of lines of an exact size: frames, rules, columns, bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.theme import BOLD, FRAME

Lines = list[Text]


@dataclass(frozen=True)
class Heading:
    """Title of a block and what is noted at its right end; ``style`` of the title."""

    title: Text
    note: Text


def blank(width: int = 0) -> Text:
    return Text(" " * max(width, 0), no_wrap=True, end="")


def joined(*parts: Text | str) -> Text:
    line = Text(no_wrap=True, end="")
    for part in parts:
        line.append(part) if isinstance(part, str) else line.append_text(part)
    return line


def spread(look: Look, left: Text, right: Text, width: int) -> Text:
    """``left`` and ``right`` at the two ends of a line; the right one goes first where there is no room."""
    if left.cell_len + 1 + right.cell_len > width:
        return look.fitted(left, width)
    return joined(left, " " * (width - left.cell_len - right.cell_len), right)


def block(look: Look, lines: Sequence[Text], width: int, height: int) -> Lines:
    """Exactly ``height`` lines of exactly ``width`` columns."""
    fitted = [look.fitted(line, width) for line in lines[: max(height, 0)]]
    return fitted + [blank(width) for _ in range(height - len(fitted))]


def beside(left: Lines, right: Lines, gap: int) -> Lines:
    return [joined(a, " " * gap, b) for a, b in zip(left, right, strict=True)]


def framed(look: Look, heading: Heading, lines: Sequence[Text], width: int, height: int, *, boxed: bool) -> Lines:
    """A titled block of exactly this size: in a box, or below a rule where room is short."""
    if height <= 0:
        return []
    if not boxed:
        return [_rule(look, heading, width, "─", "─"), *block(look, lines, width, height - 1)]
    top, side = _rule(look, heading, width, "╭", "╮"), look.own("│", FRAME)
    if height == 1:
        return [top]
    inner = [joined(side, " ", line, " ", side) for line in block(look, lines, width - 4, height - 2)]
    bottom = look.own(f"╰{'─' * (width - 2)}╯", FRAME)
    return [top, *inner, look.fitted(bottom, width)]


def _rule(look: Look, heading: Heading, width: int, begin: str, end: str) -> Text:
    left = joined(look.own(f"{begin}─ ", FRAME), heading.title, " ")
    right = joined(" ", heading.note, look.own(f" ─{end}", FRAME)) if heading.note else look.own(f"─{end}", FRAME)
    if left.cell_len + 1 + right.cell_len > width:
        right = look.own(f"─{end}", FRAME)
    if left.cell_len + right.cell_len > width:
        left = joined(look.fitted(left, width - right.cell_len - 1), " ")
    fill = look.own("─" * (width - left.cell_len - right.cell_len), FRAME)
    return look.fitted(joined(left, fill, right), width)


def heading(look: Look, title: str, count: int | None = None, note: str = "", *, style: str = BOLD) -> Heading:
    """``title`` in ``style``, a count if it is more than none, and a quiet note."""
    head = look.own(title, style)
    if count:
        head.append(f" {count:,}", FRAME)
    return Heading(head, look.own(note, FRAME))


def bar(look: Look, share: float, width: int, style: str) -> Text:
    """A bar of ``width`` columns, filled by ``share`` (0..1), to half a column."""
    halves = round(max(0.0, min(share, 1.0)) * width * 2)
    full, half = divmod(halves, 2)
    rest = width - full - half
    return joined(look.own("━" * full + "╸" * half, style), look.own("─" * rest, FRAME))


def pulse(look: Look, now: float, width: int, style: str) -> Text:
    """A bar for what nobody knows the length of: a short piece that goes to and fro, once in four seconds."""
    piece = max(1, width // 4)
    room = width - piece
    phase = now / 4 % 1
    at = round(room * (2 * phase if phase < 0.5 else 2 - 2 * phase))
    before, after = look.own("─" * at, FRAME), look.own("─" * (room - at), FRAME)
    return joined(before, look.own("━" * piece, style), after)
