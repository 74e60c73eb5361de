"""A web server on loopback, with ranges or without, that fails as it is asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from tests.loopback_server import on_loopback


@dataclass
class Server:
    """A server on loopback, and how it behaves. failures: answers of 503 that come first; cut: bytes of a body sent."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    has_ranges: bool = True
    failures: int = 0
    cuts: int = 0
    etag: str = '"1"'
    status: int = 0
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """A server of files, by path, in a thread of this process."""
    server = Server(files=files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            server.asked.append(f"{self.path} {self.headers['Range']}")
            path = unquote(self.path)
            if server.failures or server.status:
                server.failures -= bool(server.failures)
                self._answer(server.status or 503, b"no", {})
            elif path.startswith("/moved"):
                self._answer(302, b"", {"Location": self.path.removeprefix("/moved")})
            elif path not in server.files:
                self._answer(404, b"", {})
            else:
                whole = server.files[path]
                start, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                end = min(len(whole), int(last) + 1) if last else len(whole)
                if not server.has_ranges:
                    self._answer(200, whole, {"ETag": server.etag})
                elif int(start) >= len(whole):
                    self._answer(416, b"", {"Content-Range": f"bytes */{len(whole)}", "ETag": server.etag})
                else:
                    where = f"bytes {start}-{end - 1}/{len(whole)}"
                    self._answer(206, whole[int(start) : end], {"Content-Range": where, "ETag": server.etag})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            is_cut = server.cuts and len(body) > 1000
            server.cuts -= bool(is_cut)
            with suppress(OSError):  # whoever reads no further
                self.wfile.write(body[: len(body) // 2] if is_cut else body)
            self.close_connection = self.close_connection or bool(is_cut)

    with on_loopback(Handler) as running:
        server.address = f"http://127.0.0.1:{running.server_port}"
        yield server
