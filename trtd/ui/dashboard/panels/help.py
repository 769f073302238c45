"""What the keys, signs and colours mean."""

from __future__ import annotations

from rich.text import Text

from trtd.ui.dashboard.blocks import Heading, Lines, blank, framed, joined
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.panels.panel import inner
from trtd.ui.dashboard.react import DETAIL_KEYS, KEYS
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, FRAME, QUIET, SIGN, phase_style

_KEYS_WIDTH = 18
_MEANINGS = {
    "stalled": "failed; tried again when its files or tools change, or: trtd retry",
    "invalid": "the spec is at fault",
    "conflict": "another spec claims the same name",
    "stale": "out of date; its spec wants to be asked: trtd retry",
    "building": "being built now",
    "queued": "waits for its turn",
    "backoff": "failed; will be tried again by itself",
    "waiting": "for something outside: a lock, a package, a device",
    "settling": "its files are still changing",
    "paused": "somebody said: trtd pause",
    "ready": "what is published is what the spec asks for",
}


def help_lines(scene: Scene, width: int, height: int, boxed: bool) -> Lines:
    look = scene.look
    room = inner(width, boxed)
    keys = [*_keys(look, KEYS), blank(), look.own("On a subject's page", BOLD), *_keys(look, DETAIL_KEYS)]
    phases = [look.own("What a subject can be", BOLD)] + [
        joined(
            look.own(f"{sign} {phase}", phase_style(phase)), " " * (_KEYS_WIDTH - 2 - len(phase)),
            look.own(_MEANINGS[phase], QUIET),
        )
        for phase, sign in SIGN.items()
    ]  # fmt: skip
    if room >= 150:
        half = room // 2
        rows = max(len(keys), len(phases))
        pad = [blank()] * rows
        pairs = zip((keys + pad)[:rows], (phases + pad)[:rows], strict=True)
        lines = [joined(look.fitted(a, half - 2), "  ", b) for a, b in pairs]
    else:
        lines = [*keys, blank(), *phases]
        if len(lines) > height - 1:
            lines = [line for line in lines if line]
    return framed(
        look, Heading(look.own("keys", BOLD), look.own("any key: back", FRAME)), lines, width, height, boxed=boxed
    )


def _keys(look: Look, keys: tuple[tuple[str, str], ...]) -> list[Text]:
    return [joined(look.fitted(look.own(key, BOLD), _KEYS_WIDTH), look.own(does)) for key, does in keys]
