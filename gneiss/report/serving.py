"""Serving the explorer on this machine: a marimo application in a process of its own, behind a token."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gneiss.errors import MachineError

#: Nobody else on the network can reach it, and there is no option for that.
HOST = "127.0.0.1"
_START_SECONDS, _END_SECONDS = 120.0, 10.0


@dataclass(frozen=True)
class Server:
    """A server that answers; address: with the token, for a browser."""

    process: subprocess.Popen[bytes]
    address: str


@contextmanager
def served(arguments: Mapping[str, str], port: int = 0) -> Iterator[Server]:
    """Serve the explorer; ends with the block. port: 0 for a free one. Raises MachineError when it does not start.

    Parameters: `arguments`: see `open_session`. The token is in a file that only this user can read, not on a command
    line that others see.
    """
    token, chosen = secrets.token_urlsafe(24), port or _free_port()
    with tempfile.TemporaryDirectory(prefix="gneiss-explore-") as folder:
        held = Path(folder) / "token"
        held.write_text(token, "utf-8")
        given = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        command = [
            *(sys.executable, "-m", "marimo", "--quiet", "run", str(Path(__file__).parent / "explorer.py")),
            *("--headless", "--host", HOST, "--port", f"{chosen}", "--no-sandbox"),
            *("--token", "--token-password-file", str(held), "--", *given),
        ]
        environment = {**os.environ, "MARIMO_SKIP_UPDATE_CHECK": "1"}
        # its own session: Ctrl-C reaches this process only, which ends it
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            _await(process, chosen)
            yield Server(process, f"http://{HOST}:{chosen}/?access_token={token}")
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as it:
        it.bind((HOST, 0))
        return int(it.getsockname()[1])


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers."""
    ends = time.monotonic() + _START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise MachineError(f"the explorer ended with exit code {process.returncode}; is port {port} in use?")
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise MachineError(f"the explorer did not answer on port {port} within {_START_SECONDS:.0f} s")
