"""Exchange: the files by which the stages of a corpus-wide step hand record batches on; never engine objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from gneiss.errors import OutputError, first_line
from gneiss.output.layout import EXCHANGE, exchange_folder, exchange_path, grid_path, tile_path, tiles_folder
from gneiss.output.parquet import WrittenFile
from gneiss.stages.batch_file import BatchFile, Stretch, write_batches
from gneiss.stages.grid import Grid
from gneiss.store.at_once import at_once
from gneiss.store.place import Place

#: What is written at once.
WRITE_BYTES = 1 << 20
#: What is read at once of a file that is read from end to end.
READ_BYTES = 1 << 23
#: Files that are waited for at once.
AT_ONCE = 4
#: What is held, compressed, of batches that are gone through several times.
HELD_BYTES = 64_000_000


@dataclass(frozen=True)
class Exchange:
    """The exchange folder of an output. A file is there only when it is whole, so a file that is there is a task done.

    Task `index` of a stage writes one file. Its batches are numbered, mostly one for each task of the next stage, its
    receivers. Where they are many and small, the files are merged; see Grid. folder: of an increment, or of an index.
    """

    output: Place
    folder: str = EXCHANGE

    def path(self, stage: str, index: int) -> str:
        """Where in the output the file of a task lies."""
        return exchange_path(stage, index, self.folder)

    def has(self, stage: str, index: int) -> bool:
        """Whether the file of a task is there."""
        return (self.output / self.path(stage, index)).find() is not None

    def missing(self, stage: str, tasks: int) -> list[int]:
        """The tasks that are not done yet: those without a file, unless all are merged."""
        return [] if self.is_merged(stage) else self._missing(exchange_folder(stage, self.folder), tasks)

    def write(
        self,
        stage: str,
        index: int,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        receivers: int | None = None,
        level: int = 1,
    ) -> WrittenFile:
        """Write the batches of a task, under their final name only when all are written. Raises OutputError.

        receivers: batch `i` is for receiver `i % receivers`; default one for each batch; `level`: of the compression.
        """
        return self._write(self.path(stage, index), schema, batches, receivers, None, level)

    def batches(self, stage: str, index: int) -> Iterator[pa.RecordBatch]:
        """All batches of a task. Raises OutputError when the file is missing or damaged."""
        with self._open(self.path(stage, index)) as file:
            first = start = 0
            for (_, end), end_byte in zip(file.pack_numbers(), file.ends[1:].tolist(), strict=True):
                if end_byte - start >= READ_BYTES or end == file.count:
                    yield from file.read(first, end)
                    first, start = end, end_byte

    def batch(self, stage: str, index: int, number: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """One batch of a task, or some of its columns. Raises OutputError when the file is missing or damaged."""
        with self._open(self.path(stage, index)) as file:
            (found,) = file.read(number, number + 1, columns)
            return found

    def read(self, stage: str, index: int, first: int, end: int) -> list[pa.RecordBatch]:
        """The batches of a task from number `first` up to `end`. Raises OutputError as `batch` does."""
        with self._open(self.path(stage, index)) as file:
            return list(file.read(first, end))

    def across(self, stage: str, tasks: int, receiver: int, grid: Grid | None = None) -> Across:
        """What the first tasks of a stage sent to a receiver; grid: by which they are merged, if they are."""
        if grid is None or grid.tasks != tasks:
            return Across(self, tuple((self.path(stage, index), receiver) for index in range(tasks)))
        column = grid.column(receiver)
        number = receiver - grid.receivers_of(column[0]).start
        return Across(self, tuple((tile_path(stage, tile, self.folder), number) for tile in column))

    def size_bytes(self, stage: str) -> int:
        """The size of all files of a stage's tasks."""
        return sum(file.size_bytes for file in (self.output / exchange_folder(stage, self.folder)).files())

    def grid(self, stage: str) -> Grid | None:
        """How a stage is merged; None where it is not. Raises OutputError."""
        place = self.output / grid_path(stage, self.folder)
        try:
            return Grid(**json.loads(place.read()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(f"{place}: damaged ({first_line(error)}); delete it and run again") from error

    def write_grid(self, stage: str, grid: Grid) -> None:
        """Say how a stage is to be merged. Raises OutputError."""
        with (self.output / grid_path(stage, self.folder)).create() as file:
            file.write(grid.to_json().encode())

    def missing_tiles(self, stage: str, grid: Grid) -> list[int]:
        """The tiles that are not made yet."""
        return self._missing(tiles_folder(stage, self.folder), grid.tiles)

    def is_merged(self, stage: str) -> bool:
        """Whether all tiles of a stage are made, so that no file of its tasks is needed."""
        grid = self.grid(stage)
        return grid is not None and not self.missing_tiles(stage, grid)

    def write_tile(self, stage: str, grid: Grid, tile: int) -> WrittenFile:
        """Make a tile of what tasks left: their batches, one receiver after the other. Raises OutputError."""
        receivers = grid.receivers_of(tile)

        def read(task: int) -> tuple[pa.Schema, list[Iterator[pa.RecordBatch]]]:
            path = self.path(stage, task)
            with self._open(path) as file:
                turns = file.of_receivers(receivers.start, receivers.stop)
                return file.schema, [_decoded(self.output / path, [turn]) for turn in turns]

        found = list(at_once(read, grid.tasks_of(tile), AT_ONCE))
        turns = [turn for _, turns in found for turn in turns]
        batches = (next(turn) for _ in receivers for turn in turns)
        return self._write(tile_path(stage, tile, self.folder), found[0][0], batches, len(receivers), len(turns), 1)

    def discard(self, stage: str) -> None:
        """Remove the files of a stage, so that all its tasks run again."""
        (self.output / grid_path(stage, self.folder)).delete()  # without it there are no tiles
        (self.output / tiles_folder(stage, self.folder)).delete()
        self.discard_tasks(stage)

    def discard_tasks(self, stage: str) -> None:
        """Remove the files of a stage's tasks, which are merged."""
        (self.output / exchange_folder(stage, self.folder)).delete()

    def clear(self) -> None:
        """Remove the whole folder."""
        (self.output / self.folder).delete()

    def _missing(self, folder: str, count: int) -> list[int]:
        there = {file.name for file in (self.output / folder).files()}
        names = ((number, exchange_path("", number).rpartition("/")[2]) for number in range(count))
        return [number for number, name in names if name not in there]

    def _write(
        self,
        path: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        receivers: int | None,
        each: int | None,
        level: int,
    ) -> WrittenFile:
        with (
            (self.output / path).create() as file,
            pa.BufferedOutputStream(pa.PythonFile(file, "w"), WRITE_BYTES) as sink,  # batches may be many and small
        ):
            rows = write_batches(sink, schema, batches, receivers, each, level)
        return WrittenFile(path, file.size_bytes, file.checksum, rows, file.etag)

    @contextmanager
    def _open(self, path: str) -> Iterator[BatchFile]:
        place = self.output / path
        with _reading(place), place.open() as file:
            yield BatchFile.of(file)


@dataclass(frozen=True, eq=False)
class Across:
    """What tasks of a stage sent to a receiver: (file, number of the receiver in it), in the order of tasks.

    It can be iterated several times. What is read first is held, up to HELD_BYTES; the rest is read again.
    """

    exchange: Exchange
    files: tuple[tuple[str, int], ...]
    _held: list[list[Stretch]] = field(default_factory=list)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        first = len(self._held)
        for (path, _), stretches in zip(self.files, self._held[:first], strict=False):
            yield from _decoded(self.exchange.output / path, stretches)
        room = HELD_BYTES - sum(len(stretch.data) for held in self._held for stretch in held)
        left = self.files[first:]
        for (path, _), stretches in zip(left, at_once(self._read, left, AT_ONCE), strict=True):
            room -= sum(len(stretch.data) for stretch in stretches)
            if room >= 0 and len(self._held) == first:
                self._held.append(stretches)
                first += 1
            yield from _decoded(self.exchange.output / path, stretches)

    def _read(self, file: tuple[str, int]) -> list[Stretch]:
        path, receiver = file
        with self.exchange._open(path) as opened:
            return opened.of_receivers(receiver, receiver + 1)


def _decoded(place: Place, stretches: Iterable[Stretch]) -> Iterator[pa.RecordBatch]:
    with _reading(place):
        for stretch in stretches:
            yield from stretch


@contextmanager
def _reading(place: Place) -> Iterator[None]:
    """What fails raises OutputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"{place}: not there any more; run again") from error
    except (pa.ArrowException, OSError, IndexError) as error:
        raise OutputError(f"{place}: damaged ({first_line(error)}); delete it and run again") from error
