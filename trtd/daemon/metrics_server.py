"""The HTTP endpoint that Prometheus reads."""

from __future__ import annotations

import socket
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

_PATIENCE_S = 10.0


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S  # a peer that connects and says nothing is left

    def log_message(self, format: str, *args: Any) -> None:  # the overridden name
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """Like prometheus_client's own server, but it looks no name up: that can take as long as the network pleases."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # typeshed says bytes
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the peer went away; by default a trace would go to standard error


class _Server6(_Server):
    address_family = socket.AF_INET6


class Server:
    """Serves a registry of metrics, whatever path is asked for, in a thread of its own.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        kind = _Server6 if ":" in host else _Server
        self._server = kind((host, port), _Handler)
        self._server.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
