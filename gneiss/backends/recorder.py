"""The recorder of a worker: a file that says what it computes, and in which Python leaves its stack.

It outlives its worker. Whoever buries that, or looks at it, reads there at which documents it is or was. Writing costs
a few microseconds, once a batch and filter; nobody needs to listen.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import signal
import struct
import time
import zlib
from dataclasses import dataclass

import xxhash

#: What asks a worker for its stack; Python answers below the interpreter, whatever that is busy with.
ASK = signal.SIGUSR1
_PAGE_BYTES = 4096
_HEAD, _BODY = struct.Struct("<II"), struct.Struct("<qqqd")
_MOST_NAME_BYTES = 1000
_STACK_BYTES = 20_000
_FATAL = "Fatal Python error: "
_FRAME = re.compile(r'(  File ".*", line \d+) in (.+)')


@dataclass(frozen=True)
class Work:
    """What a worker computes, for the documents in some rows of a shard; size_bytes: of their texts."""

    name: str
    first: int
    last: int
    size_bytes: int = 0

    @property
    def is_of_one_document(self) -> bool:
        """Whether it is for one document."""
        return self.first == self.last

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.is_of_one_document else f"rows {self.first} to {self.last}"
        return f"{self.name}, {rows}"


@dataclass(frozen=True)
class Record:
    """What a recorder says: the work, the CPU seconds of its process when that began, and stacks."""

    work: Work | None = None
    began_cpu_seconds: float = 0.0
    stacks: str = ""

    @property
    def crash(self) -> str:
        """What Python said of the crash that ended it; empty without one."""
        _, found, after = self.stacks.rpartition(_FATAL)
        return after.partition("\n")[0][:300] if found else ""

    @property
    def stack(self) -> str:
        """The last stack, innermost call last, as tracebacks have it; empty where there is none."""
        _, _, after = f"\n{self.stacks}".rpartition("\nCurrent thread ")
        frames = map(_FRAME.fullmatch, after.partition("\n\n")[0].splitlines())
        return "\n".join(f"{call[1]}, in {call[2]}" for call in reversed([frame for frame in frames if frame]))


#: Of a worker that computes nothing for documents, or whose recorder is lost.
NOTHING = Record()


def name_of(work: str) -> str:
    """A name of bounded length, another for another work."""
    if len(raw := work.encode(errors="replace")) <= _MOST_NAME_BYTES:
        return work
    return f"{raw[: _MOST_NAME_BYTES // 2].decode(errors='ignore')}… {xxhash.xxh3_128_hexdigest(raw)}"


class Recorder:
    """The worker's side; descriptor: of an open file, which it takes over."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.ftruncate(descriptor, _PAGE_BYTES)
        self._page = mmap.mmap(descriptor, _PAGE_BYTES)
        self.clear()
        faulthandler.enable(descriptor)
        faulthandler.register(ASK, descriptor)

    def clear(self) -> None:
        """A task begins: forget what was before."""
        self.end()
        os.ftruncate(self._descriptor, _PAGE_BYTES)
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def begin(self, work: Work) -> None:
        """Say what is computed from now on."""
        body = _BODY.pack(work.first, work.last, work.size_bytes, time.process_time()) + name_of(work.name).encode()
        self.end()
        self._page[_HEAD.size : _HEAD.size + len(body)] = body
        self._page[: _HEAD.size] = _HEAD.pack(len(body), zlib.crc32(body))

    def end(self) -> None:
        """Say that it is done."""
        self._page[: _HEAD.size] = bytes(_HEAD.size)


def read_record(descriptor: int) -> Record:
    """What a recorder says, whether its worker lives or is dead. Raises OSError."""
    page = os.pread(descriptor, _PAGE_BYTES, 0)
    start = max(_PAGE_BYTES, os.fstat(descriptor).st_size - _STACK_BYTES)
    stacks = os.pread(descriptor, _STACK_BYTES, start).decode(errors="replace")
    size, checksum = _HEAD.unpack_from(page.ljust(_HEAD.size, b"\0"))
    body = page[_HEAD.size : _HEAD.size + size]
    if not size or zlib.crc32(body) != checksum:  # nothing, or it is being written
        return Record(stacks=stacks)
    first, last, size_bytes, cpu_seconds = _BODY.unpack_from(body)
    return Record(Work(body[_BODY.size :].decode(), first, last, size_bytes), cpu_seconds, stacks)
