"""A server in the OpenAI chat format on this machine, which answers, lies, fails, dawdles or says nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_server import on_loopback

#: What the server does with a request: the status and content that it answers, or what it does itself.
Behaviour = Callable[["Handler", str], "tuple[int, bytes] | None"]


@dataclass
class ChatServer:
    """What was asked, and what is to be done about it: by text, a list whose last behaviour stays."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    default: Behaviour | None = None
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def behaviour(self, text: str) -> Behaviour:
        with self.lock:
            self.asked.append(text)
            left = self.behaviours.get(text) or [self.default or honest]
            return left.pop(0) if len(left) > 1 else left[0]


class Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        chat: ChatServer = self.server.chat
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][1]["content"].removeprefix("<text>").removesuffix("</text>")
        chat.requests.append(request)
        chat.authorizations.append(self.headers.get("Authorization"))
        if (found := chat.behaviour(text)(self, text)) is not None:
            self.reply(*found)

    def reply(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def said(content: str, prompt_tokens: Any = 100, completion_tokens: Any = 10) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return json.dumps({"choices": [{"message": {"content": content}}], "usage": usage}).encode()


def honest(_: Handler, text: str) -> tuple[int, bytes]:
    return 200, said(json.dumps({"keep": "good" in text}))


def answering(status: int, content: bytes) -> Behaviour:
    return lambda handler, text: (status, content)


def silent(handler: Handler, text: str) -> None:
    """Never answers, as long as the test lasts."""
    handler.server.chat.over.wait(60)


def trickling(handler: Handler, text: str) -> None:
    """A byte now and then, so that no single wait is long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.chat.over.wait(0.02):
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def hanging_up(handler: Handler, text: str) -> None:
    handler.close_connection = True
    handler.connection.close()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with on_loopback(Handler) as server:
        chat = server.chat = ChatServer(f"http://127.0.0.1:{server.server_port}/v1")  # type: ignore[attr-defined]
        try:
            yield chat
        finally:
            chat.over.set()
