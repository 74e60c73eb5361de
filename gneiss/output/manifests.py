"""Manifests: of each step that keeps an index, which files a segment of it has, and what they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from gneiss.output.parquet import WrittenFile, write_bytes
from gneiss.store.place import Place


@dataclass(frozen=True)
class Manifest:
    """What says that a segment is whole.

    parameters: what an index must agree on to be read; models: sha256 of the step's model files, in order; before: how
    many shards of other outputs the run had indexes of; shards: id and rows of each; tasks: of each kept stage; files:
    path → size in bytes and xxh3-128 of each.
    """

    step: str
    parameters: Mapping[str, Any]
    models: list[str]
    before: int
    shards: list[tuple[str, int]]
    tasks: Mapping[str, int]
    files: Mapping[str, tuple[int, str]]

    @classmethod
    def read(cls, place: Place) -> Manifest:
        """From its file. Raises OSError, and ValueError where it is no manifest."""
        return TypeAdapter(cls).validate_json(place.read())

    def write(self, output: Place, path: str) -> None:
        """Into its file. Raises OutputError."""
        write_bytes((json.dumps(asdict(self), indent=1) + "\n").encode(), output, path)

    @property
    def written(self) -> list[WrittenFile]:
        """Its files, as a receipt has them; of their rows it says nothing."""
        return [WrittenFile(path, size_bytes, checksum, 0) for path, (size_bytes, checksum) in self.files.items()]
