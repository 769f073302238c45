"""Talking to the service manager: sd_notify(3), by hand.

A message is a datagram of ``KEY=value`` lines to the socket that ``NOTIFY_SOCKET`` names. Without the variable nothing
is sent; a socket that is gone or full costs a moment and raises nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from trtd.ui.literal import visible

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
LONGEST_STATUS = 512
_SEND_TIMEOUT_S = 1.0
_PINGS_A_PERIOD = 2  # sd_watchdog_enabled(3) recommends to tell twice in each period


class Notifier:
    """What the daemon tells the service manager. Safe from every thread; never raises.

    Attributes:
        interval_s: how often :meth:`watchdog` is to be called, at least; ``None``: nobody watches.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.interval_s = _watchdog_interval_s(environ) if self._address else None

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """A notifier, its variables taken out of the environment: child processes are not to speak for the daemon."""
        made = cls(environ)
        for variable in VARIABLES:
            environ.pop(variable, None)
        return made

    @property
    def connected(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is complete."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        """The main loop still turns."""
        return self._send("WATCHDOG=1")

    def reloading(self, status: str = "") -> bool:
        """The configuration is being read again; :meth:`ready` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", *_status(status))

    def stopping(self, status: str = "", *, within_s: float | None = None) -> bool:
        """The daemon is about to end. ``within_s`` asks for that much time where the unit's would not suffice."""
        return self._send("STOPPING=1", *_extension(within_s), *_status(status))

    def extend(self, seconds: float) -> bool:
        """Starting or stopping takes longer; tell again before these seconds are over."""
        return self._send(*_extension(seconds))

    def main_pid(self, pid: int) -> bool:
        """Another process than the one that was started is the service."""
        return self._send(f"MAINPID={pid}")

    def _send(self, *lines: str) -> bool:
        """Send one message; whether somebody took it."""
        if self._address is None or not lines:
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(_SEND_TIMEOUT_S)
            sender.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
            return True
        return False


def _address(text: str) -> bytes | None:
    """The socket's address: a path, or a name in the abstract namespace (``@…``). Other kinds are not for us."""
    if text[:1] not in ("/", "@"):
        return None
    address = os.fsencode(text)
    return b"\0" + address[1:] if address.startswith(b"@") else address


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Half of ``WATCHDOG_USEC``; ``None`` if it is not set, nonsense, or meant for another process."""
    with suppress(ValueError):
        period_us = int(environ.get("WATCHDOG_USEC", ""))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
        if period_us > 0 and pid == os.getpid():
            return period_us / 1e6 / _PINGS_A_PERIOD
    return None


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={visible(text)[:LONGEST_STATUS]}",) if text else ()  # a line break would begin another message


def _extension(seconds: float | None) -> tuple[str, ...]:
    return (f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}",) if seconds else ()
