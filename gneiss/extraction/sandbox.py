"""A process that extracts pages, one batch at a time, and is killed and replaced when a page exceeds a limit.

The deadline is CPU time, counted by the kernel inside, so that a loaded machine does not change what is extracted. A
page that ends its process, for any reason, is tried once more by itself in a new one; the second verdict stands.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType

from gneiss.errors import MachineError
from gneiss.extraction.extractors import Extractor, describe
from gneiss.extraction.pages import Page
from gneiss.extraction.wire import (
    ANSWER_HEAD_BYTES,
    MEMORY_EXIT,
    READY,
    Answer,
    answer_size,
    pack_batch,
    unpack_answer,
    write_bodies,
)

DEADLINE, MEMORY, CRASH = "deadline", "memory", "crash"
_KILLED = "killed from outside"
#: Wall time after which a process that uses no CPU time is killed: this many deadlines, and a minute.
_WALL_DEADLINES = 30
_WALL_SECONDS = 60.0
_START_SECONDS = 120.0
_PIPE_BYTES = 1 << 20
#: Text is at most this many times the page's bytes: legacy charsets of one byte grow to three in UTF-8.
_MOST_GROWTH = 4


@dataclass(frozen=True)
class Limits:
    """Limits for one page.

    deadline_seconds: CPU time; memory_bytes: resident memory of its process, about 100 MB of which are
    the libraries; max_record_bytes: of a body, stored and decoded.
    """

    deadline_seconds: float = 10.0
    memory_bytes: int = 1_000_000_000
    max_record_bytes: int = 10_000_000


@dataclass(frozen=True)
class Death:
    """Why a page ended its process: DEADLINE, MEMORY or CRASH, and what was seen."""

    reason: str
    detail: str


class Sandbox:
    """Extracts text in a child process; a context manager.

    >>> from gneiss.extraction.extractors import Resiliparse
    >>> with Sandbox(Resiliparse(), Limits()) as sandbox:
    ...     [answer] = sandbox.extract([Page(b"<html><body><main><p>Some text.</p></main>")])
    >>> answer.text, answer.extractor
    ('Some text.', 'resiliparse')
    """

    def __init__(self, extractor: Extractor, limits: Limits) -> None:
        self._limits = limits
        self._description = json.dumps({"extractor": describe(extractor), **asdict(limits)})
        self._process: subprocess.Popen[bytes] | None = None
        self._bodies = -1

    def __enter__(self) -> Sandbox:
        self._bodies = os.memfd_create("gneiss-pages")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        os.close(self._bodies)

    def extract(self, pages: Sequence[Page]) -> list[Answer | Death]:
        """An answer for each page, in order. Raises MachineError when the process cannot start or others kill it."""
        answers: list[Answer | Death] = []
        while len(answers) < len(pages):
            given, death = self._ask(pages[len(answers) :])
            answers += given
            if death:
                given, death = self._ask(pages[len(answers) : len(answers) + 1])
                if death and death.reason == _KILLED:
                    raise MachineError(
                        "the extractor's process was killed from outside, twice; out of memory? Use fewer workers and"
                        " run the same command again: finished files are kept"
                    )
                answers.append(death or given[0])
        return answers

    def _ask(self, pages: Sequence[Page]) -> tuple[list[Answer], Death | None]:
        """Answers until all have arrived or the process is dead, and its death."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        write_bodies(self._bodies, pages)
        to_send = memoryview(pack_batch(pages))
        answers: list[Answer] = []
        received = bytearray()
        poll = select.poll()
        poll.register(process.stdin, select.POLLOUT)
        poll.register(process.stdout, select.POLLIN)
        wall_seconds = _WALL_SECONDS + _WALL_DEADLINES * self._limits.deadline_seconds
        most_bytes = _MOST_GROWTH * self._limits.max_record_bytes + _PIPE_BYTES
        while len(answers) < len(pages):
            events = dict(poll.poll(wall_seconds * 1000))
            if not events:
                return answers, self._buried(Death(DEADLINE, f"no answer within {wall_seconds:.0f} s of wall time"))
            if process.stdin.fileno() in events:
                try:
                    to_send = to_send[os.write(process.stdin.fileno(), to_send[:_PIPE_BYTES]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    to_send = to_send[:0]  # it is dead: reading says so
                if not to_send:
                    poll.unregister(process.stdin)
            if process.stdout.fileno() not in events:
                continue
            block = os.read(process.stdout.fileno(), _PIPE_BYTES)
            if not block:
                return answers, self._buried()
            received += block
            while len(received) >= ANSWER_HEAD_BYTES:
                end = answer_size(received)
                if end > most_bytes:
                    return answers, self._buried(Death(CRASH, "it answered with more text than a page can have"))
                if len(received) < end:
                    break
                answers.append(unpack_answer(received))
                del received[:end]
        return answers, None

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ
        }
        modules = os.pathsep.join(path or os.getcwd() for path in sys.path)
        # the same module path as here; hash seed, time zone and locale must not affect a text
        environment |= {"PYTHONPATH": modules, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gneiss.extraction.inside", self._description, str(self._bodies)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(self._bodies,),
                env=environment,
            )
        except OSError as error:
            raise MachineError(f"the extractor's process cannot be started: {error.strerror}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        os.set_blocking(process.stdin.fileno(), False)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # a smaller pipe works, too
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        said, until = b"", time.monotonic() + _START_SECONDS
        while said != READY:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
            block = os.read(process.stdout.fileno(), len(READY) - len(said)) if ready else b""
            if not block:
                self._end()
                raise MachineError(
                    f"the extractor's process ended before it was ready (exit code {process.returncode}). Try"
                    f" `{sys.executable} -m gneiss.extraction.inside '{self._description}' 0`, which says why"
                )
            said += block
        return process

    def _buried(self, verdict: Death | None = None) -> Death:
        """Kill the process if it is alive, and return why it died."""
        assert self._process is not None
        if verdict is None:
            code = self._process.wait()
            if code == -signal.SIGPROF:
                verdict = Death(DEADLINE, f"{self._limits.deadline_seconds:g} s of CPU time")
            elif code == MEMORY_EXIT:
                verdict = Death(MEMORY, f"{self._limits.memory_bytes / 1e6:.0f} MB")
            elif code == -signal.SIGKILL:
                verdict = Death(_KILLED, "")
            else:
                verdict = Death(CRASH, signal.Signals(-code).name if code < 0 else f"exit code {code}")
        self._end()
        return verdict

    def _end(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()
        self._process = None
