"""The control socket against clients of every kind: none of them may hold up, bloat or end the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.children import run_in_child
from trtd.daemon.control import ANSWER_S, CONNECTIONS, IDLE_S, REST_S, ControlServer, Request
from trtd.daemon.control_line import COMMANDS, LINE_BYTES, SOCKET_NAME, NotACommand, read_command, socket_address
from trtd.daemon.messages import Answer
from trtd.errors import StorageError
from trtd.registry.layout import Registry
from trtd.status import Problem

PAUSE = b'{"command": "pause", "name": "digits"}\n'


def registry_in(folder: Path) -> Registry:
    registry = Registry(folder)
    registry.private.mkdir(exist_ok=True)
    return registry


class Daemon:
    """A server and its loop, driven step by step at a time of its own."""

    def __init__(self, registry: Registry) -> None:
        self.path = registry.private / SOCKET_NAME
        self.server = ControlServer(registry)
        self.now_s = 1000.0
        self.clients: list[socket.socket] = []

    def client(self, sent: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        with socket_address(self.path) as address:
            client.connect(address)
        client.sendall(sent)
        self.clients.append(client)
        return client

    def close(self) -> None:
        self.server.close()
        for client in self.clients:
            client.close()

    def is_ready(self) -> bool:
        """Whether the daemon's own selector would wake up now."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.server, selectors.EVENT_READ)
            return bool(selector.select(0))

    def step(self, after_s: float = 0.0) -> list[Request]:
        """Handle until there is nothing left to handle."""
        self.now_s += after_s
        requests = self.server.handle(self.now_s)
        for _ in range(1000):
            if not self.is_ready():
                return requests
            requests += self.server.handle(self.now_s)
        raise AssertionError("the server is never done: a loop would spin")

    def answer(self, request: Request, text: str = "done", problem: Problem | None = None) -> None:
        self.server.answer(request, Answer(text, problem))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(registry_in(tmp_path))
    yield daemon
    daemon.close()


def reply_to(client: socket.socket) -> dict[str, Any]:
    """The one line that the daemon answered before it hung up."""
    received = b""
    with contextlib.suppress(ConnectionResetError):  # if the server hung up on more than it cared to read
        while piece := client.recv(65536):
            received += piece
    assert received.count(b"\n") == 1
    assert received.endswith(b"\n")
    found = json.loads(received)
    assert isinstance(found, dict)
    return found


def is_dropped(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_arrives_and_is_answered(daemon: Daemon, command: str) -> None:
    """A command that the daemon does not take could not be given at all."""
    client = daemon.client(json.dumps({"command": command, "name": "déjà\\xff.toml"}).encode() + b"\n")
    (request,) = daemon.step()
    assert (request.command, request.name) == (command, "déjà\\xff.toml")
    daemon.answer(request, "it is\nso")
    assert reply_to(client) == {"ok": True, "text": "it is\nso"}
    assert daemon.server.next_due() is None


def test_a_problem_arrives_as_one(daemon: Daemon) -> None:
    """`trtd pause` of a name that is not there would say that all is well."""
    client = daemon.client(PAUSE)
    (request,) = daemon.step()
    daemon.answer(request, "no", Problem("usage", "there is no digits", "did you mean digit?", "specs"))
    problem = {"code": "usage", "message": "there is no digits", "hint": "did you mean digit?", "where": "specs"}
    assert reply_to(client) == {"ok": False, "problem": problem}


def test_a_command_in_pieces_is_one_command(daemon: Daemon) -> None:
    """A slow client would be told that it makes no sense."""
    client = daemon.client()
    for byte in PAUSE[:-1]:
        client.send(bytes([byte]))
        assert daemon.step() == []
    client.send(b"\n")
    assert [request.name for request in daemon.step()] == ["digits"]


GARBAGE = {
    "no JSON": b"hello\n",
    "nothing": b"\n",
    "no object": b"[1]\n",
    "unknown": b'{"command": "shutdown", "name": "x"}\n',
    "a list as command": b'{"command": ["pause"], "name": "x"}\n',
    "no name": b'{"command": "pause"}\n',
    "empty name": b'{"command": "pause", "name": ""}\n',
    "number as name": b'{"command": "pause", "name": 7}\n',
    "escapes as name": b'{"command": "pause", "name": "\\u001b[2J"}\n',
    "lone surrogate": b'{"command": "pause", "name": "\\udc80"}\n',
    "not UTF-8": b'{"command": "pause", "name": "\xff"}\n',
    "deep": b"[" * 60_000 + b"\n",
    "huge number": b'{"command": ' + b"9" * 50_000 + b"}\n",
    "zeros": b"\0" * 1000 + b"\n",
    "long line": b"x" * (LINE_BYTES + 1) + b"\n",
    "long line without an end": b"x" * (LINE_BYTES + 100),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_answered_and_harms_nobody(daemon: Daemon, what: str) -> None:
    """One bad client would end the daemon, or would never learn what it did wrong."""
    client, good = daemon.client(GARBAGE[what]), daemon.client(PAUSE)
    assert [request.name for request in daemon.step()] == ["digits"]
    problem = reply_to(client)["problem"]
    assert problem["code"] == "usage"
    assert problem["message"].isprintable()
    assert len(problem["message"]) < 400
    assert not is_dropped(good)


@given(line=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"command": text}).encode()))
@settings(max_examples=200, deadline=None)
def test_no_line_raises_anything_else(line: bytes) -> None:
    """What one line can bring up in the reader would bring down the daemon."""
    try:
        command, name = read_command(line)
    except NotACommand:
        return
    assert command in COMMANDS
    assert isinstance(name, str)


def test_clients_that_go_away_at_any_moment(daemon: Daemon) -> None:
    """Ctrl-C in the wrong moment would leave something behind, or break the pipe of the daemon."""
    daemon.client().close()
    daemon.client(PAUSE[:10]).close()
    client = daemon.client(PAUSE)
    client.close()
    (request,) = daemon.step()
    daemon.answer(request)
    daemon.answer(request)  # and twice does no harm
    client = daemon.client(PAUSE)
    (request,) = daemon.step()
    client.close()
    daemon.answer(request, "x" * 1_000_000)
    assert daemon.step() == []
    assert daemon.server.next_due() is None


def test_idle_clients_are_dropped_and_waiting_ones_are_not(daemon: Daemon) -> None:
    """Connections that nobody uses would fill up the daemon; and a slow answer is not the client's fault."""
    idle, half, waiting = daemon.client(), daemon.client(PAUSE[:10]), daemon.client(PAUSE)
    (request,) = daemon.step()
    assert daemon.server.next_due() == daemon.now_s + IDLE_S
    half.send(PAUSE[10:12])  # a byte now and then does not count
    daemon.step(IDLE_S - 0.1)
    assert not is_dropped(idle)
    daemon.step(0.2)
    assert [is_dropped(client) for client in (idle, half, waiting)] == [True, True, False]
    waiting.settimeout(10)
    daemon.answer(request)
    assert reply_to(waiting)["ok"]


def test_a_command_that_is_never_answered_is_let_go(daemon: Daemon) -> None:
    """Some dozens of them would close the door for good."""
    client = daemon.client(PAUSE)
    (request,) = daemon.step()
    daemon.step(ANSWER_S + 0.1)
    assert is_dropped(client)
    daemon.answer(request)


def test_a_client_that_does_not_read_gets_a_long_answer_later_or_is_dropped(daemon: Daemon) -> None:
    """The daemon would wait for it, and nothing would be built meanwhile."""
    reading, deaf = daemon.client(PAUSE), daemon.client(PAUSE)
    for request in daemon.step():
        daemon.answer(request, "x" * 2_000_000)
    assert not daemon.is_ready()
    received = 0
    while piece := reading.recv(1 << 20):
        received += len(piece)
        daemon.step()
    assert received > 2_000_000
    daemon.step(IDLE_S + 0.1)
    assert daemon.server.next_due() is None
    deaf.close()


def test_too_many_clients_are_told_so(daemon: Daemon) -> None:
    """Anybody could use up the daemon's descriptors."""
    kept = [daemon.client() for _ in range(CONNECTIONS // 2)]
    daemon.step()
    kept += [daemon.client() for _ in range(CONNECTIONS - len(kept))]
    daemon.step()
    extra = daemon.client(PAUSE)
    assert daemon.step() == []
    assert reply_to(extra)["problem"]["code"] == "registry-busy"
    kept[0].sendall(PAUSE)
    (request,) = daemon.step()
    daemon.answer(request)
    assert reply_to(kept[0])["ok"]
    daemon.client(PAUSE)
    assert len(daemon.step()) == 1


def test_without_descriptors_the_daemon_rests_instead_of_spinning(tmp_path: Path) -> None:
    """A daemon that runs out of descriptors would take a whole core, waking up for one that it cannot let in."""

    def starve() -> None:
        daemon = Daemon(registry_in(tmp_path))
        client = daemon.client(PAUSE)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        assert daemon.server.handle(daemon.now_s) == []
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not daemon.is_ready()
        assert daemon.server.next_due() == daemon.now_s + REST_S
        (request,) = daemon.step(REST_S)
        daemon.answer(request)
        assert reply_to(client)["ok"]

    assert run_in_child(starve) == 0


# ---------------------------------------------------------------------------------------------------- the socket file


def test_nobody_else_may_connect(daemon: Daemon) -> None:
    """Every user of the machine could stop builds."""
    found = os.lstat(daemon.path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert os.listdir(daemon.path.parent) == [SOCKET_NAME]


def test_a_registry_may_lie_deep(tmp_path: Path) -> None:
    """The kernel takes 107 bytes for a socket's path: a registry in a home folder's depths could not be served."""
    folder = tmp_path.joinpath(*["x" * 200] * 5, os.fsdecode(b"\xff y"))
    folder.mkdir(parents=True)
    daemon = Daemon(registry_in(folder))
    daemon.client(PAUSE)
    assert len(daemon.step()) == 1
    daemon.close()
    assert os.listdir(daemon.path.parent) == []


def leave_socket(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()


@pytest.mark.parametrize("leave", [leave_socket, Path.touch, lambda path: path.symlink_to("/absent")])
def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path, leave: Callable[[Path], object]) -> None:
    """After kill -9 no command would reach the next daemon."""
    registry = registry_in(tmp_path)
    leave(registry.private / SOCKET_NAME)
    leave(registry.private / f".{SOCKET_NAME}.new")
    daemon = Daemon(registry)
    daemon.client(PAUSE)
    assert len(daemon.step()) == 1
    daemon.close()
    assert os.listdir(registry.private) == []


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    """The daemon would end with a traceback."""
    with pytest.raises(StorageError, match="could not make the control socket"):
        ControlServer(Registry(tmp_path / "absent"))
    registry = registry_in(tmp_path)
    (registry.private / SOCKET_NAME / "folder").mkdir(parents=True)
    with pytest.raises(StorageError, match="could not make the control socket"):
        ControlServer(registry)
    assert os.listdir(registry.private) == [SOCKET_NAME]


def test_a_socket_that_vanished_is_made_again(daemon: Daemon) -> None:
    """After the registry was moved away and back, no command would reach the daemon that serves it."""
    waiting = daemon.client(PAUSE)
    (request,) = daemon.step()
    assert daemon.server.is_in_place()
    daemon.path.unlink()
    assert not daemon.server.is_in_place()
    daemon.server.renew()
    assert daemon.server.is_in_place()
    client = daemon.client(PAUSE)
    (other,) = daemon.step()
    daemon.answer(other, "new")
    daemon.answer(request, "old")
    assert (reply_to(client)["text"], reply_to(waiting)["text"]) == ("new", "old")
    leave_socket(daemon.path.with_name("another"))
    os.replace(daemon.path.with_name("another"), daemon.path)
    daemon.server.close()
    assert daemon.path.exists(), "the socket of another daemon was removed"


def test_a_renewal_that_fails_leaves_a_server_that_works(daemon: Daemon) -> None:
    """One failed try would take down the daemon, or leave it deaf for good."""
    away = daemon.path.parent.with_name("away")
    os.rename(daemon.path.parent, away)
    with pytest.raises(StorageError):
        daemon.server.renew()
    assert daemon.step() == []
    os.rename(away, daemon.path.parent)
    daemon.server.renew()
    daemon.client(PAUSE)
    assert len(daemon.step()) == 1


def test_an_idle_server_asks_for_nothing(daemon: Daemon) -> None:
    """An idle daemon would wake up for nothing, all day."""
    assert daemon.step() == []
    assert daemon.server.next_due() is None
    assert not daemon.is_ready()
