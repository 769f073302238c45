"""Stand-ins for a daemon at the other end of the control socket."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trtd.daemon.control import ControlServer, Request
from trtd.daemon.control_line import SOCKET_NAME, socket_address
from trtd.daemon.messages import Answer
from trtd.registry.layout import Registry

Reply = Callable[[Request], Answer]


@contextmanager
def serving(registry: Registry, reply: Reply) -> Iterator[list[Request]]:
    """A stand-in for the daemon's loop that answers as told; gives what was asked for."""
    asked: list[Request] = []
    server = ControlServer(registry)
    done, stop = os.pipe()

    def loop() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            selector.register(done, selectors.EVENT_READ)
            while done not in [key.fd for key, _ in selector.select(server.next_due() and 0.1)]:
                for request in server.handle(time.monotonic()):
                    asked.append(request)
                    server.answer(request, reply(request))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield asked
    finally:
        os.write(stop, b"!")
        thread.join()
        server.close()
        os.close(done)
        os.close(stop)


@contextmanager
def answering(registry: Registry, answer: bytes | None) -> Iterator[None]:
    """A stand-in that accepts one client and sends it these bytes, or hangs up, or (``None``) keeps silent."""
    listener = socket.socket(socket.AF_UNIX)
    with socket_address(registry.private / SOCKET_NAME) as address:
        listener.bind(address)
    listener.listen(1)

    def serve() -> None:
        client, _ = listener.accept()
        client.recv(4096)
        client.sendall(answer or b"")
        client.close()

    thread = threading.Thread(target=serve)
    if answer is not None:
        thread.start()
    yield
    if answer is not None:
        thread.join()
    listener.close()
