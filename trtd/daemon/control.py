"""Where people's commands reach the daemon: the other end of :mod:`trtd.daemon.client`.

The user who runs the daemon and root may connect, and so may the group of ``specs/`` where it may write there: who adds
and removes specs may also pause and retry them. Nothing here waits, and nothing that a client does or leaves
undone is an error of the daemon's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.daemon.control_line import (
    LINE_BYTES,
    SOCKET_NAME,
    ControlCommand,
    NotACommand,
    read_command,
    socket_address,
    write_answer,
)
from trtd.daemon.messages import Answer
from trtd.status import Problem
from trtd.store.atomic import storage_errors

if TYPE_CHECKING:
    from trtd.registry.layout import Registry

CONNECTIONS = 32
IDLE_S = 5.0
ANSWER_S = 60.0
"""How long the daemon may take to answer before its client is let go."""
REST_S = 1.0
"""How long nobody is let in after the system had no descriptor left for one."""

_PIECE_BYTES = 16_384


@dataclass(eq=False)
class _Connection:
    """One client, until it has its answer or its time is over."""

    socket: socket.socket
    deadline_mono_s: float
    received: bytearray = field(default_factory=bytearray)
    to_send: bytes = b""


@dataclass(frozen=True, eq=False)
class Request:
    """What somebody wants; it must be given to :meth:`ControlServer.answer`. ``name`` is empty if none is needed."""

    command: ControlCommand
    name: str
    _connection: _Connection = field(repr=False)


class ControlServer:
    """The daemon's end. Register it with a selector for reading (it has a ``fileno``), and call :meth:`handle`.

    Args:
        registry: gets the socket file. One that is there belongs to a dead daemon: the caller holds the daemon's lock.

    Raises:
        StorageError: it cannot be made.
    """

    def __init__(self, registry: Registry) -> None:
        self._path = registry.private / SOCKET_NAME
        self._specs = registry.specs
        self._now_mono_s = 0.0  # of the last call of handle
        self._selector = selectors.EpollSelector()  # its own descriptor is ready when one of those inside is
        self._connections: set[_Connection] = set()
        self._rests_until_mono_s: float | None = None
        try:
            self._listen()
        except BaseException:
            self._selector.close()
            raise

    def fileno(self) -> int:
        """Ready for reading when there is something to handle."""
        return self._selector.fileno()

    def handle(self, now_mono_s: float) -> list[Request]:
        """Do what can be done without waiting; gives what was asked for. Call it when ready, and at ``next_due``."""
        self._now_mono_s = now_mono_s
        requests = []
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept()
            elif key.data.to_send:
                self._send(key.data)
            elif (request := self._receive(key.data)) is not None:
                requests.append(request)
        for connection in [c for c in self._connections if c.deadline_mono_s <= now_mono_s]:
            self._drop(connection)
        if self._rests_until_mono_s is not None and self._rests_until_mono_s <= now_mono_s:
            self._rests_until_mono_s = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        return requests

    def next_due(self) -> float | None:
        """When :meth:`handle` should be called at the latest (``mono_s``), to be rid of idle clients."""
        deadlines = [connection.deadline_mono_s for connection in self._connections]
        if self._rests_until_mono_s is not None:
            deadlines.append(self._rests_until_mono_s)
        return min(deadlines, default=None)

    def answer(self, request: Request, answer: Answer) -> None:
        """Answer a request. If the client has gone, that is that."""
        if request._connection in self._connections:
            self._reply(request._connection, answer)

    def is_in_place(self) -> bool:
        """Whether the socket file is still there; if the registry was moved or made anew, :meth:`renew` it."""
        try:
            return os.lstat(self._path).st_ino == self._inode
        except OSError:
            return False

    def renew(self) -> None:
        """Make the socket file again. Clients that are connected stay so.

        Raises:
            StorageError: it cannot be made; the old one stays as it is.
        """
        old = self._listener
        self._listen()
        with contextlib.suppress(KeyError):
            self._selector.unregister(old)
        self._rests_until_mono_s = None
        old.close()

    def close(self) -> None:
        """Remove the socket file and let go of all clients."""
        if self.is_in_place():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        for connection in list(self._connections):
            self._drop(connection)
        self._listener.close()
        self._selector.close()

    # ------------------------------------------------------------------------------------------------------- clients

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            with storage_errors("make the control socket", self._path):
                os.fchmod(listener.fileno(), 0o600)  # the file that bind makes takes this mode: never open to others
                temporary.unlink(missing_ok=True)
                with socket_address(temporary) as address:
                    listener.bind(address)
                try:
                    listener.listen(CONNECTIONS)
                    _open_to_authors(temporary, self._specs)
                    self._inode = os.lstat(temporary).st_ino
                    os.replace(temporary, self._path)
                except OSError:
                    temporary.unlink(missing_ok=True)
                    raise
            self._selector.register(listener, selectors.EVENT_READ)
        except BaseException:
            listener.close()
            raise
        self._listener = listener

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The one who knocks stays in the queue, and would wake the daemon again at once, for ever.
                self._selector.unregister(self._listener)
                self._rests_until_mono_s = self._now_mono_s + REST_S
            return  # otherwise: gone again, before the door was open
        client.setblocking(False)
        connection = _Connection(client, self._now_mono_s + IDLE_S)
        is_full = len(self._connections) >= CONNECTIONS
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, connection)
        if is_full:
            busy = Problem("registry-busy", "too many commands at a time wait for the daemon", "try again in a moment")
            self._reply(connection, Answer(busy.message, busy))

    def _receive(self, connection: _Connection) -> Request | None:
        try:
            piece = connection.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            piece = b""
        connection.received += piece
        line, end, _ = connection.received.partition(b"\n")
        if not piece and not end:
            self._drop(connection)  # gone, or half a line: nobody waits for an answer to that
        elif len(line) > LINE_BYTES:
            self._refuse(connection, f"a command is a line of at most {LINE_BYTES} bytes")
        elif end:
            return self._read(connection, bytes(line))
        return None

    def _read(self, connection: _Connection, line: bytes) -> Request | None:
        try:
            command, name = read_command(line)
        except NotACommand as error:
            self._refuse(connection, str(error))
            return None
        connection.deadline_mono_s = self._now_mono_s + ANSWER_S
        # While it waits for its answer only its going away matters, and that shows when the answer is sent.
        self._selector.unregister(connection.socket)
        return Request(command, name, connection)

    def _refuse(self, connection: _Connection, fault: str) -> None:
        problem = Problem("usage", f"the daemon does not understand: {fault}", "use a trtd of the daemon's version")
        self._reply(connection, Answer(problem.message, problem))

    def _reply(self, connection: _Connection, answer: Answer) -> None:
        connection.to_send = write_answer(answer.text, answer.problem)
        connection.deadline_mono_s = self._now_mono_s + IDLE_S
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.to_send, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            sent = len(connection.to_send)
        connection.to_send = connection.to_send[sent:]
        if not connection.to_send:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        connection.socket.close()


def _open_to_authors(socket_file: Path, specs: Path) -> None:
    """Let the group in that may write specs. Where that cannot be arranged the socket stays the owner's."""
    with contextlib.suppress(OSError):
        status = os.stat(specs)
        if status.st_mode & stat.S_IWGRP:
            if os.lstat(socket_file).st_gid != status.st_gid:
                os.chown(socket_file, -1, status.st_gid)
            os.chmod(socket_file, 0o660)
