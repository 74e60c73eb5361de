"""An HTTP server on the loopback interface, for the stand-ins of services."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class LoopbackServer(ThreadingHTTPServer):
    """A client that hangs up is no fault of the stand-in; any other exception of a handler is printed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def on_loopback(handler: type[BaseHTTPRequestHandler]) -> Iterator[LoopbackServer]:
    """The server, on a free port, until the block ends."""
    with LoopbackServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
