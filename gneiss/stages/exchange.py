"""Exchange: the files by which the stages of a corpus-wide step hand record batches on; never engine objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gneiss.errors import OutputError
from gneiss.output.layout import EXCHANGE, exchange_folder, exchange_path
from gneiss.output.parquet import Aside, WrittenFile


@dataclass(frozen=True)
class Exchange:
    """The exchange folder of an output. A file is there only when it is whole, so a file that is there is a task done.

    Task `index` of a stage writes one Arrow file; its batches are numbered, mostly one for each task of the next stage.
    """

    output: Path

    def path(self, stage: str, index: int) -> str:
        """The file of a task, relative to the output."""
        return exchange_path(stage, index)

    def has(self, stage: str, index: int) -> bool:
        """Whether a task is done."""
        return (self.output / self.path(stage, index)).is_file()

    def write(self, stage: str, index: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> WrittenFile:
        """Write the batches of a task, zstd-compressed, under their final name only when all are written."""
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        rows = 0
        with (
            Aside(self.output, self.path(stage, index)) as aside,
            pa.OSFile(str(aside.temporary), "wb") as sink,
            pa.ipc.new_file(sink, schema, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return aside.written(rows)

    def batches(self, stage: str, index: int) -> int:
        """How many batches a task wrote."""
        with self._open(stage, index) as file:
            return int(pa.ipc.open_file(file).num_record_batches)

    def batch(self, stage: str, index: int, number: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """One batch of a task, or some of its columns. Raises OutputError when the file is missing or damaged."""
        with self._open(stage, index) as file:
            try:
                reader = pa.ipc.open_file(file)
                if columns is not None:
                    fields = [reader.schema.get_field_index(name) for name in columns]
                    reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
                return reader.get_batch(number)
            except (pa.ArrowException, OSError, IndexError) as error:
                raise OutputError(f"{self.path(stage, index)}: damaged ({error}); delete it and run again") from error

    def across(self, stage: str, tasks: int, number: int) -> Across:
        """The same batch of every task of a stage, in order; read anew each time it is iterated."""
        return Across(self, stage, tasks, number)

    def discard(self, stage: str) -> None:
        """Remove the files of a stage, so that all its tasks run again."""
        shutil.rmtree(self.output / exchange_folder(stage), ignore_errors=True)

    def clear(self) -> None:
        """Remove the whole folder."""
        shutil.rmtree(self.output / EXCHANGE, ignore_errors=True)

    def _open(self, stage: str, index: int) -> pa.MemoryMappedFile:
        try:
            return pa.memory_map(str(self.output / self.path(stage, index)))
        except OSError as error:
            raise OutputError(f"{self.path(stage, index)}: cannot read ({error}); run again") from error


@dataclass(frozen=True)
class Across:
    """One batch of every task of a stage."""

    exchange: Exchange
    stage: str
    tasks: int
    number: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for index in range(self.tasks):
            yield self.exchange.batch(self.stage, index, self.number)
