"""The last line: what keys do here, or what is being typed."""

from __future__ import annotations

from rich.text import Text

from trtd.ui.dashboard.blocks import joined
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, CYAN, QUIET

_LIST = (("↑↓", "select"), ("Enter", "open"), ("/", "find"), ("f", "kind"), ("s", "sort"), ("?", "help"), ("q", "quit"))
_DETAIL = (("←→", "page"), ("↑↓", "scroll"), ("n p", "next, previous"), ("Esc", "back"), ("?", "help"), ("q", "quit"))


def footer_line(scene: Scene, width: int) -> Text:
    look, view = scene.look, scene.view
    if view.typing:
        prompt, cursor = look.own(" / ", f"{BOLD} {CYAN}"), Text(" ", "reverse")
        found = look.own(f"  {len(scene.rows):,} found · Enter keeps it, Esc lists everything", QUIET)
        text = look.tail(view.text, max(width - 5, 1))
        return look.fitted(joined(prompt, text, cursor, found), width)
    keys = _DETAIL if view.opened is not None else _LIST
    line = Text(" ", no_wrap=True, end="")
    for key, does in keys:
        line.append_text(look.own(_arrows(key, look.unicode), BOLD)).append_text(look.own(f" {does}   ", QUIET))
    return look.fitted(line, width)


def _arrows(key: str, unicode: bool) -> str:
    return key if unicode else {"↑↓": "Up Down", "←→": "Left Right"}.get(key, key)
