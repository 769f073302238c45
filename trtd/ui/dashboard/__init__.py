"""The full-screen view of a registry's daemon: ``trtd status --watch``.

:func:`draw` makes a picture of a :class:`trtd.status.Snapshot` and a :class:`View`, :func:`on_key` the next view; both
are pure. :func:`watch` is the loop around them, on a real terminal, if it :func:`fits` there.
"""

from trtd.ui.dashboard.loop import watch
from trtd.ui.dashboard.picture import Picture, draw
from trtd.ui.dashboard.react import on_key
from trtd.ui.dashboard.scene import Context, Detail
from trtd.ui.dashboard.terminal import fits
from trtd.ui.dashboard.view import View

__all__ = ["Context", "Detail", "Picture", "View", "draw", "fits", "on_key", "watch"]
