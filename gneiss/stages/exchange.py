"""Exchange: the files by which the stages of a corpus-wide step hand record batches on; never engine objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from gneiss.errors import OutputError, first_line
from gneiss.output.layout import EXCHANGE, exchange_folder, exchange_path
from gneiss.output.parquet import WrittenFile
from gneiss.store.place import Place

#: What is written at once.
WRITE_BYTES = 1 << 20


@dataclass(frozen=True)
class Exchange:
    """The exchange folder of an output. A file is there only when it is whole, so a file that is there is a task done.

    Task `index` of a stage writes one Arrow file; its batches are numbered, mostly one for each task of the next stage.
    """

    output: Place

    def path(self, stage: str, index: int) -> str:
        """The file of a task, relative to the output."""
        return exchange_path(stage, index)

    def has(self, stage: str, index: int) -> bool:
        """Whether a task is done."""
        return (self.output / self.path(stage, index)).find() is not None

    def write(self, stage: str, index: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> WrittenFile:
        """Write the batches of a task, zstd-compressed, under their final name only when all are written."""
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        place = self.output / self.path(stage, index)
        rows = 0
        with (
            place.create() as file,
            pa.BufferedOutputStream(pa.PythonFile(file, "w"), WRITE_BYTES) as sink,  # batches may be many and small
            pa.ipc.new_file(sink, schema, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return WrittenFile(self.path(stage, index), file.size_bytes, file.checksum, rows, file.etag)

    def batches(self, stage: str, index: int) -> int:
        """How many batches a task wrote. Raises OutputError when the file is missing or damaged."""
        with self._open(stage, index) as file:
            return int(pa.ipc.open_file(file).num_record_batches)

    def batch(self, stage: str, index: int, number: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """One batch of a task, or some of its columns. Raises OutputError when the file is missing or damaged."""
        with self._open(stage, index) as file:
            reader = pa.ipc.open_file(file)
            if columns is not None:
                fields = [reader.schema.get_field_index(name) for name in columns]
                reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
            return reader.get_batch(number)

    def across(self, stage: str, tasks: int, number: int) -> Across:
        """The same batch of every task of a stage, in order; read anew each time it is iterated."""
        return Across(self, stage, tasks, number)

    def discard(self, stage: str) -> None:
        """Remove the files of a stage, so that all its tasks run again."""
        (self.output / exchange_folder(stage)).delete()

    def clear(self) -> None:
        """Remove the whole folder."""
        (self.output / EXCHANGE).delete()

    @contextmanager
    def _open(self, stage: str, index: int) -> Iterator[pa.NativeFile]:
        place = self.output / self.path(stage, index)
        try:
            with place.open() as file:
                yield file
        except FileNotFoundError as error:
            raise OutputError(f"{place}: not there any more; run again") from error
        except (pa.ArrowException, OSError, IndexError) as error:
            raise OutputError(f"{place}: damaged ({first_line(error)}); delete it and run again") from error


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
