"""Files of any store as a file system of DuckDB, by which it reads Parquet: only what a query needs of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock, local
from typing import Any

from fsspec import AbstractFileSystem

from gneiss.store.place import Place

PROTOCOL = "gneiss"


class StoredFiles(AbstractFileSystem):  # type: ignore[misc]
    """Places under names, such as `gneiss://base/0`; a name is no path, and holds no wildcards."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, places: Mapping[str, Place]) -> None:
        super().__init__()
        self._places = places

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file for reads of any range, by several threads."""
        return _SharedFile(self._place(path).open())

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Its size."""
        place = self._place(path)
        found = place.find()
        if found is None:
            raise FileNotFoundError(2, "it no longer exists", str(place))
        return {"name": path, "size": found.size_bytes, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file of this name."""
        return [path]

    def modified(self, path: str) -> datetime:
        """The same for all: the files of a run do not change."""
        return datetime.fromtimestamp(0, UTC)

    def _place(self, path: str) -> Place:
        return self._places[path]


class _SharedFile(io.RawIOBase):
    """A file that threads of DuckDB read at the same time: each of them seeks, then reads, at a position of its own."""

    def __init__(self, file: Any) -> None:
        self._file, self._one_at_a_time, self._of_thread = file, Lock(), local()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where this thread reads next."""
        return int(getattr(self._of_thread, "position", 0))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Let this thread read on from there."""
        begin = self._file.size() if whence == io.SEEK_END else self.tell() if whence == io.SEEK_CUR else 0
        self._of_thread.position = begin + offset
        return self.tell()

    def read(self, size: int = -1) -> bytes:
        """Read from where this thread is."""
        with self._one_at_a_time:
            self._file.seek(self.tell())
            content = bytes(self._file.read(None if size < 0 else size))
        self._of_thread.position = self.tell() + len(content)
        return content

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
