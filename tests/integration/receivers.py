"""Those to whom a daemon speaks, a service manager at the end of a real socket and a web server, and its phases."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.host import PATIENCE_S, Host
from trtd.daemon.snapshot import read_snapshot

HOLDABLE = """
import os, sys, time
from pathlib import Path
import {module} as room
held, place = Path(sys.argv[1]), room.{owner}.{function}
def slow(*args, **options):
    while held.exists():
        held.with_suffix(".reached").touch()
        time.sleep(0.02)
    return place(*args, **options)
room.{owner}.{function} = slow
from trtd.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def phase(host: Host, key: str) -> str | None:
    """As `trtd status` shows it, without the process that would take."""
    found = read_snapshot(host.registry).subjects
    return next((subject.phase for subject in found if subject.key == key), None)


def drop_unbuildable(host: Host, name: str = "tiny") -> None:
    """A spec without fault whose model is none: its build fails at once, for good."""
    (host.workshop.model.parent / "bad.onnx").write_bytes(b"no model")
    host.drop(name, model='path = "../models/bad.onnx"', precision='"fp32"')


def has_scanned(host: Host, pid: int) -> bool:
    """Whether this daemon, and not one before it, has told of a scan."""
    daemon = read_snapshot(host.registry).daemon
    return daemon is not None and daemon.pid == pid and daemon.scans > 0


class Manager:
    """The service manager's end of ``NOTIFY_SOCKET``. ``told``: its messages, each a dictionary."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def listen(self, patience_s: float) -> bool:
        """Take one message; False if none comes."""
        if not select.select([self._socket], [], [], patience_s)[0]:
            return False
        text = self._socket.recv(65536).decode()
        self.told.append(dict(line.partition("=")[::2] for line in text.split("\n")))
        return True

    def until(self, wanted: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """Wait for a message that has not come before this call."""
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            assert self.listen(max(0.0, give_up_s - time.monotonic())), f"{what}; it told {self.told}"
            if wanted(self.told[-1]):
                return self.told[-1]

    def catch_up(self) -> None:
        while self.listen(0):
            pass

    def close(self) -> None:
        self._socket.close()
        Path(self.address).unlink(missing_ok=True)


@contextmanager
def service_manager() -> Iterator[Manager]:
    manager = Manager(f"/tmp/trtd-notify-{os.getpid()}-{time.monotonic_ns()}")  # pytest's folders are too deep for one
    try:
        yield manager
    finally:
        manager.close()


def start_holdable(host: Host, held: Path, owner: str, function: str, **environment: str) -> subprocess.Popen[bytes]:
    """A daemon that stops in a function of its loop while the file ``held`` is there: a stand-in for one that hangs.

    Args:
        owner: ``module:class``.
    """
    module, _, name = owner.partition(":")
    code = HOLDABLE.format(module=module, owner=name, function=function)
    command = [sys.executable, "-c", code, str(held), "run", "--registry", str(host.registry.root)]
    with host.log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    host.processes.append(process)
    return process


class WebServer:
    """Takes events by POST. ``answer``: a status, or ``None`` to leave the peer waiting."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.answer: int | None = 204
        self.closing = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.got.append((self.path, json.loads(body)))
                if owner.answer is None:
                    owner.closing.wait(PATIENCE_S)
                    return
                self.send_response(owner.answer)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert isinstance(port, int)
    return port
