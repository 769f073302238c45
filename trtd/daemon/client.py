"""Saying something to the daemon of a registry, and hearing what it says to that."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.daemon.control_line import (
    ANSWER_BYTES,
    SOCKET_NAME,
    ControlCommand,
    read_answer,
    socket_address,
    write_command,
)
from trtd.daemon.keys import key_of
from trtd.errors import EnvironmentMissing

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

_POLL_S = 0.05


def ask(registry: Registry, command: ControlCommand, name: str = "", timeout_s: float = 10.0) -> str:
    """Tell the daemon a command; its answer.

    Args:
        registry: whose daemon.
        command: ``reload`` and ``ping`` take no name.
        name: a spec's file name, a spec's name or an engine's name, as typed or as ``trtd status`` shows it.
        timeout_s: for everything together.

    Raises:
        EnvironmentMissing: no daemon runs on this registry, it belongs to somebody else, or it does not answer.
        TrtdError: what the daemon has against it.
    """
    deadline = time.monotonic() + timeout_s
    root = str(registry.root)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _connect(connection, registry.private / SOCKET_NAME, deadline)
            connection.sendall(write_command(command, as_typed(name)))
            reply = _read_line(connection, deadline)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        hint = f"start one: trtd run --registry {root}"
        raise EnvironmentMissing("no daemon runs on this registry", hint=hint, where=root) from error
    except PermissionError as error:
        hint = "run as the user who runs the daemon (`trtd status` tells its process), or join the group of specs/"
        raise EnvironmentMissing("the daemon takes no commands from you", hint=hint, where=root) from error
    except TimeoutError as error:
        raise _silent(root, f"the daemon did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise _silent(root, f"the connection to the daemon broke: {error.strerror or error}") from error
    try:
        return read_answer(reply)
    except ValueError as error:
        fault = "gave an answer that makes no sense" if reply else "went away before it answered"
        raise _silent(root, f"the daemon {fault}") from error


def as_typed(name: str) -> str:
    """A name as the daemon knows it: what no terminal can show is written out, as ``trtd status`` does it."""
    return name if name.isprintable() else key_of(name)


def _connect(connection: socket.socket, path: Path, deadline: float) -> None:
    while True:
        connection.settimeout(max(_POLL_S, deadline - time.monotonic()))
        try:
            with socket_address(path) as address:
                return connection.connect(address)
        except BlockingIOError as error:  # so many wait at the door that this one may not even queue up
            if time.monotonic() >= deadline:
                raise TimeoutError from error
            time.sleep(_POLL_S)


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    received = b""
    while b"\n" not in received and len(received) < ANSWER_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    return received


def _silent(root: str, message: str) -> EnvironmentMissing:
    hint = f"trtd status --registry {root} tells whether it runs; its log tells what it does"
    return EnvironmentMissing(message, hint=hint, where=root)
