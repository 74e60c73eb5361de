"""A store that counts what is asked of it, and reads as object stores are read: the end first, then ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gneiss.store.ranged import open_ranges
from gneiss.store.store import File
from tests.store.memory import MemoryStore

_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class CountingStore(MemoryStore):
    """asked: (operation, path, bytes) of every request, in order. `open` is one: it brings the end of a file."""

    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def open(self, path: str, version: File | None = None) -> Any:
        """See Store."""
        if path not in self.content:
            self.asked.append(("open", path, 0))
            raise FileNotFoundError(2, "no such object", path)
        content = self.content[path][0]
        tail = content[-_TAIL_BYTES:]
        self.asked.append(("open", path, len(tail)))

        def fetch(start: int, end: int) -> bytes:
            self.asked.append(("range", path, end - start))
            return content[start:end]

        return open_ranges(fetch, len(content), tail)

    def find(self, path: str) -> File | None:
        """See Store."""
        self.asked.append(("find", path, 0))
        return super().find(path)

    def files(self, folder: str, pattern: str | None = None) -> Iterator[File]:
        """See Store."""
        self.asked.append(("list", folder, 0))
        return super().files(folder, pattern)

    @contextmanager
    def create(self, path: str, *, is_new: bool = False) -> Iterator[BinaryIO]:
        """See Store."""
        with super().create(path, is_new=is_new) as file:
            yield file
        self.asked.append(("put", path, len(self.content[path][0])))

    def delete(self, path: str) -> None:
        """See Store."""
        self.asked.append(("delete", path, 0))
        super().delete(path)
