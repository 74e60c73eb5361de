"""Files of any store as a file system of DuckDB, by which it reads Parquet: only what a query needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
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
        """Open a file for reads of any range."""
        return self._place(path).open()

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Its size."""
        place = self._place(path)
        found = place.find()
        if found is None:
            raise FileNotFoundError(2, "it is not there any more", str(place))
        return {"name": path, "size": found.size_bytes, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file of this name."""
        return [path]

    def modified(self, path: str) -> datetime:
        """The same for all: the files of a run do not change."""
        return datetime.fromtimestamp(0, UTC)

    def _place(self, path: str) -> Place:
        return self._places[path]
