"""What each key does: from one view to the next. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from trtd.status import Snapshot
from trtd.ui.dashboard.arrange import arranged, row_of, survey
from trtd.ui.dashboard.view import SHOWS, SORTS, TABS, View, window

Item = TypeVar("Item")

_LONGEST_TEXT = 200

KEYS: tuple[tuple[str, str], ...] = (
    ("↑ ↓  k j", "select a subject"),
    ("PgUp PgDn", "a page up, down"),
    ("Home End  g G", "the first, the last"),
    ("Enter", "open the selected subject"),
    ("/", "list only what holds these words: name, file, target, phase, engine"),
    ("f  F", "list only one kind: those that need you, building, waiting, …"),
    ("s  S", "sort by phase, name, priority, last change, speedup, fidelity"),
    ("Esc", "back; or drop the filters"),
    ("Ctrl-L", "draw everything again"),
    ("?", "this page"),
    ("q  Ctrl-C", "leave; builds go on"),
)
DETAIL_KEYS: tuple[tuple[str, str], ...] = (
    ("← →  Tab  1–4", "report, conditions, log, history"),
    ("↑ ↓  PgUp PgDn", "scroll"),
    ("e", "the next of its reports"),
    ("n  p", "the next, the previous subject of the list"),
)


def on_key(view: View, key: str, snapshot: Snapshot) -> View:
    """The view after ``key``, as :mod:`trtd.ui.dashboard.keys` names it. A key that means nothing changes nothing."""
    if key == "ctrl-c":
        return replace(view, left=True)
    if view.help:
        return _in_help(view, key)
    if view.typing:
        return _typing(view, key, snapshot)
    if key == "q":
        return replace(view, left=True)
    if key in ("?", "h"):
        return replace(view, help=True)
    return _in_detail(view, key, snapshot) if view.opened is not None else _in_list(view, key, snapshot)


def _in_help(view: View, key: str) -> View:
    return replace(view, left=True) if key == "q" else replace(view, help=False)


def _typing(view: View, key: str, snapshot: Snapshot) -> View:
    text = view.text
    if key == "enter":
        return replace(view, typing=False)
    if key == "esc":
        return _listing(view, typing=False, text="")
    if key == "backspace":
        return _listing(view, text=text[:-1]) if text else replace(view, typing=False)
    if key == "ctrl-u":
        return _listing(view, text="")
    if key == "ctrl-w":
        kept, _, _ = text.rstrip().rpartition(" ")
        return _listing(view, text=f"{kept} " if kept else "")
    if len(key) == 1:
        return _listing(view, text=(text + key)[:_LONGEST_TEXT])
    return _moved(view, key, snapshot)


def _in_list(view: View, key: str, snapshot: Snapshot) -> View:
    if key == "/":
        return replace(view, typing=True)
    if key == "enter":
        rows = arranged(snapshot.subjects, view)
        if not rows:
            return view
        row = row_of(rows, view)
        return replace(view, selected=rows[row].key, index=row, opened=rows[row].key, scroll=0, choice=0)
    if key == "esc":
        return _listing(view, text="") if view.text else _listing(view, show="all")
    if key in ("f", "F"):
        counts = survey(snapshot.subjects).counts
        shows = [show for show in SHOWS if show in ("all", view.show) or (show != "all" and counts[show])]
        return _listing(view, show=_turned(shows, view.show, key == "F"))
    if key in ("s", "S"):
        return replace(view, sort=_turned(SORTS, view.sort, key == "S"))
    return _moved(view, key, snapshot)


def _in_detail(view: View, key: str, snapshot: Snapshot) -> View:
    if key in ("esc", "left") and (key == "esc" or view.tab == TABS[0]):
        return replace(view, opened=None, scroll=0, choice=0)
    if key in ("backspace", "enter"):
        return replace(view, opened=None, scroll=0, choice=0)
    if key in ("right", "tab", "l"):
        return replace(view, tab=_turned(TABS, view.tab, False), scroll=0)
    if key in ("left", "backtab"):
        return replace(view, tab=_turned(TABS, view.tab, True), scroll=0)
    if key in ("1", "2", "3", "4"):
        return replace(view, tab=TABS[int(key) - 1], scroll=0)
    if key == "e":
        return replace(view, choice=view.choice + 1, scroll=0)
    if key in ("n", "p"):
        moved = _moved(view, "down" if key == "n" else "up", snapshot)
        return replace(moved, opened=moved.selected or view.opened, scroll=0, choice=0)
    return _scrolled(view, key)


def _scrolled(view: View, key: str) -> View:
    """Drawing says how far it can go. A log is scrolled from its end, which is what one wants to see of it."""
    step = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -view.page, "pgdn": view.page, " ": view.page}.get(key)
    if step is None:
        ends = {"home": -(10**9), "g": -(10**9), "end": 10**9, "G": 10**9}
        step = ends.get(key, 0)
    return replace(view, scroll=max(0, view.scroll + (-step if view.tab == "log" else step)))


def _moved(view: View, key: str, snapshot: Snapshot) -> View:
    moves: dict[str, Callable[[int, int], int]] = {
        "up": lambda row, last: row - 1,
        "k": lambda row, last: row - 1,
        "down": lambda row, last: row + 1,
        "j": lambda row, last: row + 1,
        "pgup": lambda row, last: row - view.page,
        "pgdn": lambda row, last: row + view.page,
        " ": lambda row, last: row + view.page,
        "home": lambda row, last: 0,
        "g": lambda row, last: 0,
        "end": lambda row, last: last,
        "G": lambda row, last: last,
    }
    rows = arranged(snapshot.subjects, view)
    if key not in moves or not rows:
        return view
    last = len(rows) - 1
    row = max(0, min(moves[key](row_of(rows, view), last), last))
    return replace(view, selected=rows[row].key, index=row, top=window(view.top, row, view.page, len(rows)))


def _listing(view: View, **changes: object) -> View:
    """Another choice of subjects: the selection stays if it is among them, else it is the first."""
    return replace(view, index=0, top=0, **changes)  # type: ignore[arg-type]


def _turned(items: Sequence[Item], item: Item, back: bool) -> Item:
    """The item after, or before, ``item``, all around."""
    return items[(items.index(item) + (-1 if back else 1)) % len(items)]
