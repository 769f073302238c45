"""What a person has chosen to see: plain, immutable state that keys change and drawing reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trtd.ui.dashboard.theme import Group

Sort = Literal["phase", "name", "priority", "last change", "speedup", "fidelity"]
Tab = Literal["report", "conditions", "log", "history"]
Show = Literal["all"] | Group

SORTS: tuple[Sort, ...] = get_args(Sort)
TABS: tuple[Tab, ...] = get_args(Tab)
SHOWS: tuple[Show, ...] = ("all", *get_args(Group))


@dataclass(frozen=True)
class View:
    """What is chosen, and where the window on the list stands.

    Attributes:
        selected: key of the chosen subject; ``None``, or one that is not listed: the row ``index``.
        index: row of the selection when it was last drawn: the place to stay at if the subject goes away.
        top: first row shown.
        page: rows shown, for PgUp and PgDn.
        text: only subjects that this is found in.
        typing: whether keys go into ``text``.
        show: only subjects of this group of phases.
        opened: key of the subject whose detail is shown.
        scroll: lines of the detail that are scrolled away; of a log, from its end.
        choice: which of a subject's reports.
        left: a person has had enough.
    """

    selected: str | None = None
    index: int = 0
    top: int = 0
    page: int = 10
    text: str = ""
    typing: bool = False
    show: Show = "all"
    sort: Sort = "phase"
    opened: str | None = None
    tab: Tab = "report"
    scroll: int = 0
    choice: int = 0
    help: bool = False
    left: bool = False


def window(top: int, index: int, page: int, count: int) -> int:
    """The first row of ``count`` to show, so that row ``index`` is among the ``page`` shown; ``top`` if it will do."""
    page = max(page, 1)
    margin = min(2, (page - 1) // 2)
    highest = index - margin
    lowest = index + margin - page + 1
    return max(0, min(max(min(top, highest), lowest), count - page))
