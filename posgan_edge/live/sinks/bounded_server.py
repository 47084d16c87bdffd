"""An HTTP server with a bound on its connections."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Connections at one time; more are closed without a response.
_MOST_CONNECTIONS = 64


class BoundedServer(ThreadingHTTPServer):
    """A thread for each connection, and not too many of them."""

    daemon_threads = True
    request_queue_size = 2 * _MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._held: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Takes a connection if there are not too many."""
        with self._lock:
            if len(self._held) >= _MOST_CONNECTIONS:
                return False
            self._held.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._held.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Closes the server, and ends connections that a slow client would keep open."""
        super().server_close()
        with self._lock:
            for held in self._held:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a viewer may leave at any time."""
