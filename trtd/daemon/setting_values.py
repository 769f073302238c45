"""The kinds of values that stand in ``trtd.toml``, each with its bounds and its own way to say no."""

from __future__ import annotations

import re
import socket
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from trtd.spec.section import refuse
from trtd.spec.values import described, literal

LEAST_BYTES = 1 << 26
DAY_S = 86400.0

_MOST_BYTES = 2**63 - 1
_LEAST_GC_H = 0.1


def _absolute(text: str) -> str:
    if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        raise refuse(f"must not hold control characters, got {described(text)}")
    if not text.startswith("/"):
        raise refuse(f"must be an absolute path, got {described(text)}", "write it in full, from /")
    return text


def _listen(text: str) -> str:
    try:
        address(text)
    except ValueError:
        message = f"must be the IP address of an interface and a port, got {described(text)}"
        raise refuse(message, 'for example: listen = "127.0.0.1:9464", or "[::1]:9464"') from None
    return text


def _webhook(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isprintable() or not text.isascii() or " " in text:
        # What was given is not repeated: its end is often a secret.
        raise refuse("must be a web address", 'for example: webhook = "https://hooks.example.org/trtd"')
    if "@" in urlsplit(text).netloc:
        raise refuse("must not hold a user or password", "use an address whose path is the secret")
    return text


def _program(words: list[str]) -> list[str]:
    if not words[0].startswith("/"):
        message = f"must begin with the absolute path of a program, got {described(words[0])}"
        raise refuse(message, 'for example: command = ["/usr/local/bin/tell"]; there is no shell and no search path')
    if any("\0" in word for word in words):
        raise refuse("must not hold NUL characters")
    return words


def _never_or_seldom(hours: float) -> float:
    if 0 < hours < _LEAST_GC_H:
        raise refuse(f"must be 0, which means never, or {_LEAST_GC_H} or more, got {hours:g}")
    return hours


def _no_repeats(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise refuse(f"must name each once, got {literal(values)}", "remove what stands twice")
    return values


def address(listen: str) -> tuple[str, int]:
    """IP address and port of ``1.2.3.4:PORT`` or ``[IPv6]:PORT``. Raises ``ValueError`` if it is neither.

    No names: looking one up can take as long as the network pleases.
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})", listen, re.ASCII)
    if found is None or not 0 < int(found[3]) < 2**16:
        raise ValueError(listen)
    family = socket.AF_INET6 if found[1] else socket.AF_INET
    host = found[1] or found[2]
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(listen) from None
    return host, int(found[3])


HookEvent = Literal["published", "failed", "stale"]
AbsolutePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
Listen = Annotated[str, AfterValidator(_listen)]
Webhook = Annotated[str, AfterValidator(_webhook)]
Program = Annotated[list[str], Field(min_length=1, max_length=256), AfterValidator(_program)]
Folders = Annotated[list[AbsolutePath], AfterValidator(_no_repeats)]
HookEvents = Annotated[list[HookEvent], Field(min_length=1), AfterValidator(_no_repeats)]
Bytes = Annotated[int, Field(ge=LEAST_BYTES, le=_MOST_BYTES)]
Count = Annotated[int, Field(ge=1, le=1024)]
Deadline = Annotated[float, Field(gt=0, le=30 * DAY_S)]
Pause = Annotated[float, Field(ge=0, le=3600)]
Interval = Annotated[float, Field(ge=0.1, le=3600)]
Patience = Annotated[float, Field(ge=0.1, le=30 * DAY_S)]
EveryHours = Annotated[float, Field(ge=0, le=8760), AfterValidator(_never_or_seldom)]
