"""Exchange: the files by which the rounds of a corpus-wide step hand record batches on; never engine objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gneiss.errors import OutputError
from gneiss.output.layout import EXCHANGE, exchange_path
from gneiss.output.parquet import Aside, WrittenFile


@dataclass(frozen=True)
class Exchange:
    """The exchange folder of an output. A file is there only when it is whole, so a file that is there is a task done.

    Task `index` of a round writes one Arrow file; its batches are numbered, mostly one for each task of the next round.
    """

    output: Path

    def path(self, round_name: str, index: int) -> str:
        """The file of a task, relative to the output."""
        return exchange_path(round_name, index)

    def has(self, round_name: str, index: int) -> bool:
        """Whether a task is done."""
        return (self.output / self.path(round_name, index)).is_file()

    def write(self, round_name: str, index: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> WrittenFile:
        """Write the batches of a task, zstd-compressed, under their final name only when all are written."""
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        rows = 0
        with (
            Aside(self.output, self.path(round_name, index)) as aside,
            pa.OSFile(str(aside.temporary), "wb") as sink,
            pa.ipc.new_file(sink, schema, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return aside.written(rows)

    def batches(self, round_name: str, index: int) -> int:
        """How many batches a task wrote."""
        with self._open(round_name, index) as file:
            return int(pa.ipc.open_file(file).num_record_batches)

    def batch(self, round_name: str, index: int, number: int) -> pa.RecordBatch:
        """One batch of a task. Raises OutputError when the file is missing or damaged."""
        with self._open(round_name, index) as file:
            try:
                return pa.ipc.open_file(file).get_batch(number)
            except (pa.ArrowException, OSError, IndexError) as error:
                raise OutputError(
                    f"{self.path(round_name, index)}: damaged ({error}); delete it and run again"
                ) from error

    def across(self, round_name: str, tasks: int, number: int) -> Across:
        """The same batch of every task of a round, in order; read anew each time it is iterated."""
        return Across(self, round_name, tasks, number)

    def clear(self) -> None:
        """Remove the whole folder."""
        shutil.rmtree(self.output / EXCHANGE, ignore_errors=True)

    def _open(self, round_name: str, index: int) -> pa.MemoryMappedFile:
        try:
            return pa.memory_map(str(self.output / self.path(round_name, index)))
        except OSError as error:
            raise OutputError(f"{self.path(round_name, index)}: cannot read ({error}); run again") from error


@dataclass(frozen=True)
class Across:
    """One batch of every task of a round."""

    exchange: Exchange
    round_name: str
    tasks: int
    number: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for index in range(self.tasks):
            yield self.exchange.batch(self.round_name, index, self.number)
