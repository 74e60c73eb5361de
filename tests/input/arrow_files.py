"""A toy format, as CONTRIBUTING.md describes one: Arrow IPC files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from gneiss.input.formats.format import CutFile, Part
from gneiss.store.place import Place


@dataclass(frozen=True)
class ArrowFiles:
    """Arrow IPC files. Parts count record batches."""

    suffixes = (".arrow",)
    counts_rows = False

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        with file.open() as opened, pa.ipc.open_file(opened) as reader:
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            rows, sizes = [batch.num_rows for batch in batches], [batch[text].nbytes for batch in batches]
        edges = [0]
        for number in range(1, len(batches)):
            if sum(sizes[edges[-1] : number + 1]) > part_max_bytes:
                edges.append(number)
        names = [f".b{start:05d}" if len(edges) > 1 else "" for start in edges]
        parts = [
            Part(name, start, end, sum(rows[start:end]), sum(sizes[start:end]))
            for name, (start, end) in zip(names, pairwise([*edges, len(batches)]), strict=True)
        ]
        return CutFile(reader.schema, tuple(parts), file.checksum())

    def digest(self, file: Place) -> str:
        return file.checksum()

    def schema(self, file: Place) -> pa.Schema:
        with file.open() as opened, pa.ipc.open_file(opened) as reader:
            return reader.schema

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        with file.open() as opened, pa.ipc.open_file(opened) as reader:
            for number in range(part.start, part.end):
                table = pa.Table.from_batches([reader.get_batch(number)], reader.schema)
                yield table if columns is None else table.select(list(columns))

    def for_worker(self) -> ArrowFiles:
        return self
