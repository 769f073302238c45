"""What builds run on: CPU and GPUs, and how many builds occupy them."""

from __future__ import annotations

from rich.text import Text

from trtd.status import DeviceStatus
from trtd.ui.dashboard.blocks import Heading, Lines, heading, joined, spread
from trtd.ui.dashboard.panels.panel import Panel
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.theme import CYAN, QUIET

_MOST_SQUARES = 16


def _lines(scene: Scene, width: int, height: int) -> Lines:
    daemon = scene.snapshot.daemon
    devices = daemon.devices if daemon is not None and scene.snapshot.alive else ()
    return [_line(scene, device, width) for device in devices[:height]]


def _line(scene: Scene, device: DeviceStatus, width: int) -> Text:
    look = scene.look
    shown = min(device.slots, _MOST_SQUARES)
    busy = round(shown * device.running / device.slots) if device.slots > shown else device.running
    squares = joined(look.own("■" * min(busy, shown), CYAN), look.own("□" * max(shown - busy, 0), QUIET))
    count = look.own(f" {device.running}/{device.slots}", "" if device.running else QUIET)
    name = look.short(device.name, max(width - squares.cell_len - 16, 8))
    left = joined(look.own("cpu  " if device.id == "cpu" else "gpu  ", QUIET), name)
    uuid = look.foreign(f"  {device.id}", QUIET) if device.id != "cpu" else look.own("")
    if left.cell_len + uuid.cell_len + squares.cell_len + count.cell_len + 2 <= width:
        left = joined(left, uuid)
    return spread(look, left, joined(squares, count), width)


def _heading(scene: Scene) -> Heading:
    return heading(scene.look, "devices")


DEVICES = Panel(_heading, _lines, least=1, most=9)
