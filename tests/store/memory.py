"""A toy store, as CONTRIBUTING.md describes one: a dictionary in this process."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, BinaryIO

import pyarrow as pa

from gneiss.store.store import File, Holder, matches


@dataclass(frozen=True, eq=False)
class MemoryStore:
    """Files of this process, at `memory://…`. An ETag is the number of a write. Several threads may write at once."""

    content: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=partial(count, 1))
    held: set[str] = field(default_factory=set)

    schemes = ("memory",)
    reads_versions = True
    files_at_once = 2
    refusal = None

    def path(self, address: str) -> str:
        return address.removeprefix("memory://").rstrip("/")

    def address(self, path: str) -> str:
        return f"memory://{path}"

    def resolve(self, path: str) -> str:
        return path

    def pin(self, path: str) -> None:
        pass

    def find(self, path: str) -> File | None:
        if path not in self.content:
            return None
        content, number = self.content[path]
        return File(path.rpartition("/")[2], len(content), str(number))

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        for path, (content, number) in list(self.content.items()):
            name = path.removeprefix(f"{folder}/")
            if name != path and (pattern is None or matches(name, pattern)):
                yield File(name, len(content), str(number))

    def open(self, path: str, version: File | None = None) -> Any:
        if (found := self.find(path)) is None:
            raise FileNotFoundError(2, "no such object", path)
        if version is not None and version.etag != found.etag:
            raise OSError(errno.ESTALE, "another version", path)
        return pa.BufferReader(self.content[path][0])

    @contextmanager
    def create(self, path: str, *, is_new: bool = False) -> Iterator[BinaryIO]:
        file = io.BytesIO()
        yield file
        if is_new and path in self.content:
            raise FileExistsError(17, "there already", path)
        self.content[path] = (file.getvalue(), next(self.numbers))

    def delete(self, path: str) -> None:
        for each in [each for each in list(self.content) if f"{each}/".startswith(f"{path}/")]:
            del self.content[each]

    def sweep(self, folder: str) -> None:
        pass

    @contextmanager
    def lock(self, path: str) -> Iterator[Callable[[], None]]:
        if path in self.held:
            raise BlockingIOError(11, "held", path)
        self.held.add(path)
        try:
            yield lambda: None
        finally:
            self.held.remove(path)

    def holder(self, path: str) -> Holder | None:
        return Holder("a block of this process") if path in self.held else None
