"""The head of the screen: registry and daemon, how many subjects are in which state, and what is wrong with either."""

from __future__ import annotations

import shlex

from rich.text import Text

from trtd.status import PHASES
from trtd.ui.dashboard.blocks import Lines, joined, spread
from trtd.ui.dashboard.facts import changed_at
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import BOLD, GREEN, QUIET, RANK, RED, STYLE, WORDS, YELLOW, phase_sign, phase_style
from trtd.ui.dashboard.times import age, moment, uptime

_GAP = "  "
_MOST_BANNERS = 4


def header_lines(scene: Scene, width: int, height: int) -> Lines:
    """One or two lines, by ``height``."""
    return [_identity(scene, width), _counts(scene, width)] if height > 1 else [_counts(scene, width)]


def _identity(scene: Scene, width: int) -> Text:
    look, daemon, now = scene.look, scene.snapshot.daemon, scene.now
    name = look.own(" trtd ", BOLD)
    clock = look.own(f"{moment(now, now)} ", QUIET)
    facts = [clock]
    if daemon is not None and scene.snapshot.alive:
        facts.insert(0, _watching(scene))
        state = joined(look.own("● ", GREEN), look.own(f"daemon {daemon.pid} · up {uptime(now - daemon.started_at)}"))
        facts.insert(0, state)
        if width >= 130:
            facts.insert(2, _scanned(scene))
            facts.insert(3, look.prose(daemon.version, QUIET))
    else:
        facts.insert(0, look.own("● no daemon", f"{BOLD} {RED}"))
    dot = look.own(" · ", QUIET)
    right = facts[0]
    for fact in facts[1:]:
        right = joined(right, dot, fact)
    folder = daemon.registry if daemon is not None else scene.context.registry
    room = width - name.cell_len - right.cell_len - 2
    if room < 8:
        return look.fitted(joined(name, " ", right), width)
    return spread(look, joined(name, " ", look.tail(folder, room)), right, width)


def _watching(scene: Scene) -> Text:
    daemon = scene.snapshot.daemon
    polled = [watch for watch in daemon.watches if watch.mode == "polling"] if daemon else []
    if not polled:
        return scene.look.own("watching", QUIET)
    return scene.look.own("polling", YELLOW)


def _scanned(scene: Scene) -> Text:
    daemon = scene.snapshot.daemon
    if daemon is None or daemon.last_scan_at is None:
        return scene.look.own("not scanned yet", YELLOW)
    return scene.look.own(f"scanned {age(scene.now - daemon.last_scan_at)} ago", QUIET)


def _counts(scene: Scene, width: int) -> Text:
    """How many there are in each phase, or where that is too long, in each group; at the right, the devices."""
    look = scene.look
    devices = _devices(scene)
    line = Text(no_wrap=True, end="")
    for parts in (_by_phase(scene), _by_group(scene)):
        line = Text(" ", no_wrap=True, end="")
        for part in parts:
            line.append_text(part).append(_GAP)
        line.rstrip()
        if line.cell_len + devices.cell_len + 3 <= width:
            return spread(look, line, joined(devices, " "), width)
    return look.fitted(line, width)


def _by_phase(scene: Scene) -> list[Text]:
    phases = scene.survey.phases
    found = [
        scene.look.own(f"{phase_sign(phase)} {phases[phase]:,} {phase}", phase_style(phase))
        for phase in sorted(PHASES, key=lambda phase: RANK[phase])
        if phases.get(phase)
    ]
    return found or [scene.look.own("no specs", QUIET)]


def _by_group(scene: Scene) -> list[Text]:
    signs = {"needs": "✗", "working": "●", "waiting": "○", "paused": "□", "ready": "✓"}
    return [
        scene.look.own(f"{signs[group]} {count:,} {WORDS[group]}", STYLE[group])
        for group, count in scene.survey.counts.items()
        if count
    ]


def _devices(scene: Scene) -> Text:
    daemon, look = scene.snapshot.daemon, scene.look
    devices = daemon.devices if daemon is not None and scene.snapshot.alive else ()
    gpus = [device for device in devices if device.id != "cpu"]
    line = Text(no_wrap=True, end="")
    for name, group in (("cpu", [d for d in devices if d.id == "cpu"]), ("gpu", gpus)):
        if group:
            running, slots = sum(d.running for d in group), sum(d.slots for d in group)
            style = STYLE["working"] if running else QUIET
            line.append("  " if line else "").append_text(look.own(f"{name} {running}/{slots}", style))
    return line


def banner_lines(scene: Scene, width: int) -> Lines:
    """What is wrong with the daemon, or with how it notices changes: the worst first."""
    look = scene.look
    told = [(sign, text, style) for sign, text, style in _banners(scene) if text]
    lines: Lines = []
    for sign, text, style in told:
        folded = look.folded(text, width - 4, style, most=3)
        heads = [look.own(f" {sign} ", style)] + [look.own("   ")] * (len(folded) - 1)
        lines += [joined(head, line) for head, line in zip(heads, folded, strict=True)]
    return lines[:_MOST_BANNERS]


def _banners(scene: Scene) -> list[tuple[str, str, str]]:
    daemon, loud = scene.snapshot.daemon, f"{BOLD} {RED}"
    found = []
    if scene.context.trouble:
        found.append(("✗", scene.context.trouble, loud))
    folder = daemon.registry if daemon is not None else scene.context.registry
    start = f"trtd run --registry {shlex.quote(folder) if folder else 'DIR'}"
    if daemon is None:
        found.append(("✗", f"No daemon has run here yet.\nStart it: {start}", loud))
    elif not scene.snapshot.alive:
        left = f"this is how it was left {age(scene.now - _left_at(scene))} ago"
        found.append(("✗", f"No daemon runs; {left}.\nStart it: {start}", loud))
    else:
        found += [("▲", text, YELLOW) for text in daemon.degraded]
        told = " ".join(daemon.degraded)
        for watch in daemon.watches:
            if watch.mode == "polling" and not (watch.reason and watch.reason in told):
                reason = f": {watch.reason}" if watch.reason else ""
                found.append(("▲", f"{watch.folder} is polled{reason}", YELLOW))
    return found


def _left_at(scene: Scene) -> float:
    """The latest that anybody wrote down."""
    snapshot = scene.snapshot
    dates = [event.at for event in snapshot.events[-1:]]
    if snapshot.daemon is not None:
        dates += [snapshot.daemon.started_at, snapshot.daemon.last_scan_at or 0.0]
    return max([*dates, *(changed_at(subject) for subject in snapshot.subjects[:1000])])
