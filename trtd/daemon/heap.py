"""Giving freed memory back to the machine: else the C library keeps it, and a burst of specs would show for ever."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Do it, where the C library can: glibc's ``malloc_trim(3)``. It takes some milliseconds."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
