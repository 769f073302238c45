"""What needs a person: why, and what to do next."""

from __future__ import annotations

from rich.text import Text

from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined, spread
from trtd.ui.dashboard.facts import changed_at, situation, title
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.panels.selected import problem_lines
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, QUIET, RED, phase_sign
from trtd.ui.dashboard.times import age

_MESSAGE_LINES = 2


def _lines(scene: Scene, width: int, height: int) -> Lines:
    """As many subjects as fit whole; not the selected one, which is shown beside them."""
    look, lines = scene.look, list[Text]()
    for subject in scene.survey.needs:
        if subject is scene.selected:
            continue
        at = changed_at(subject)
        note = look.own(f"{subject.phase} {age(scene.now - at) if at else ''}".rstrip(), QUIET)
        name = look.ends(title(subject), max(width - note.cell_len - 4, 4), BOLD)
        entry = [spread(look, joined(look.own(f"{phase_sign(subject.phase)} ", RED), name), note, width)]
        body = problem_lines(look, subject, max(width - 2, 1), _MESSAGE_LINES)
        if subject.problem is None and (text := situation(subject, scene.now)):
            body = [*look.folded(text, max(width - 2, 1), most=_MESSAGE_LINES), *body]
        entry += [joined("  ", line) for line in body]
        if lines and len(lines) + len(entry) > height:
            break
        lines += entry
    return lines[:height]


def _heading(scene: Scene) -> Heading:
    others = len(scene.survey.needs) - (scene.selected in scene.survey.needs)
    title = "needs you" if others == len(scene.survey.needs) else "also needs you"
    return heading(scene.look, title, others, style=f"{BOLD} {RED}")


NEEDS = Panel(_heading, _lines, least=3, most=18)
