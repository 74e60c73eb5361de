"""The command `gneiss` for shell scripts of tests, as a fork of the process that `warm` in conftest.py keeps.

A stub on the PATH hands its arguments, folder, environment and standard streams to a thread of the tests. The command
does its work in its own process, without workers: what it prints and writes is the same.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

from gneiss.cli.main import main
from tests import runs
from tests.warm_processes import WarmProcesses

_STUB = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as tests:
    tests.connect({address!r})
    socket.send_fds(tests, [b"."], [0, 1, 2])
    tests.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    tests.shutdown(socket.SHUT_WR)
    sys.exit(int(tests.makefile().read()))
"""


@contextmanager
def commands(context: WarmProcesses) -> Iterator[Path]:
    """A folder for the PATH, with `gneiss` in it, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="gneiss-") as name, socket.socket(socket.AF_UNIX) as door:
        folder = Path(name)  # not in a folder of pytest: the address of a socket has 107 bytes at most
        door.bind(str(folder / "socket"))
        door.listen()
        (folder / "gneiss").write_text(_STUB.format(python=sys.executable, address=str(folder / "socket")))
        (folder / "gneiss").chmod(0o755)
        serving = Thread(target=_serve, args=(context, door))
        serving.start()
        try:
            yield folder
        finally:
            door.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(context: WarmProcesses, door: socket.socket) -> None:
    while True:
        try:
            caller, _ = door.accept()
        except OSError:  # the door was shut
            return
        Thread(target=_answer, args=(context, caller)).start()


def _answer(context: WarmProcesses, caller: socket.socket) -> None:
    with caller, caller.makefile("rb") as said:
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        arguments, folder, environment = json.loads(said.read())
        given: tuple[Any, ...] = (arguments, folder, environment, [_Handed(stream) for stream in streams])
        process = context.Process(target=_run, args=given)
        process.start()
        for stream in streams:
            os.close(stream)
        process.join()
        code = process.exitcode or 0
        caller.sendall(b"%d" % (code if code >= 0 else 128 - code))


@dataclass(frozen=True)
class _Handed:
    """A stream that goes to another process with the arguments of that."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.number),)


def _received(stream: Any) -> int:
    return int(stream.detach())


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """What the process of a command does."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["gneiss", *arguments]
    with patch("gneiss.backends.local.LocalProcesses", runs.InThisProcess):
        main()
