"""Comma- and tab-separated values: one shard a file, since only a reader from its start knows where a row begins."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import Int64Array
from gneiss.input.formats import lines
from gneiss.input.formats.format import MALFORMED, CutFile, Part
from gneiss.store.place import Place

#: The longest row, and what is read at once.
_BLOCK_BYTES = 1 << 25
#: Malformed rows in a block: a file with more of them is something else.
_MOST_MALFORMED = 250_000
_FEWER, _MORE = "fewer fields than columns", "more fields than columns"


@dataclass(frozen=True)
class Csv:
    """Files of separated values, with the names of columns in the first row. A part is all rows of a file."""

    text: str = ""
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        f"{name}{codec}" for name in (".csv", ".tsv") for codec in ("", *lines.CODECS)
    )
    counts_rows: ClassVar[bool] = True
    finds_malformed: ClassVar[bool] = True

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[Csv, Sequence[pa.Schema]]:
        """See Format: each file has its own columns."""
        return replace(self, text=text), schemas

    def for_worker(self) -> Csv:
        """See Format."""
        return self

    def digest(self, file: Place) -> str:
        """See Format."""
        return lines.digest(file)

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """See Format: all that is known of the sizes of texts is that of the file."""
        block, size = lines.sample(file, 0)
        sampled = 1 if block is None else block.size
        likely = 0 if block is None else int((block.data[:sampled] == ord("\n")).sum()) * size // sampled
        schema = pa.schema([(name, pa.string()) for name in _names(file)])
        part = Part("", 0, size, None, size, table_bytes=2 * _BLOCK_BYTES, likely_rows=likely)
        return CutFile(schema, (part,), lines.digest(file))

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format: strings, for a file does not say what else they could be."""
        return pa.schema([(name, pa.string()) for name in _names(file)])

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        names = _names(file)
        wanted = names if columns is None else [name for name in columns if name != MALFORMED]
        bad = _Malformed()
        with ExitStack() as opened:
            first = 0
            for table in _read(opened, file, names, wanted or names[:1], bad):
                rows, is_bad = bad.places(first, table.num_rows)
                yield self._with(table, bad, rows, is_bad, columns)
                first = int(rows[-1]) + 1 if len(rows) else first
            if rest := len(bad.texts):
                table = pa.schema([(name, pa.string()) for name in wanted or names[:1]]).empty_table()
                yield self._with(table, bad, np.arange(first, first + rest), np.ones(rest, np.bool_), columns)

    def _with(
        self, table: pa.Table, bad: _Malformed, rows: Int64Array, is_bad: Any, columns: Sequence[str] | None
    ) -> pa.Table:
        """Good rows, and malformed ones in their places."""
        reasons = pa.nulls(len(rows), pa.string())
        if is_bad.any():
            texts, said = bad.give(int(is_bad.sum()))
            mask = pa.array(is_bad)
            table = table.take(pa.array(np.cumsum(~is_bad) - 1, mask=is_bad))
            reasons = pc.replace_with_mask(reasons, mask, pa.array(said, pa.string()))
            if self.text in table.column_names:
                column = table[self.text].combine_chunks()
                column = pc.replace_with_mask(column, mask, pa.array(texts, pa.string()))
                table = table.set_column(table.column_names.index(self.text), self.text, column)
        if columns is None:
            return table
        return table.append_column(MALFORMED, reasons).select(list(columns))


class _Malformed:
    """The rows that pyarrow could not read and nobody was given yet: numbers, from 0, texts, and what is wrong."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.texts: list[str] = []
        self.reasons: list[str] = []

    def note(self, row: Any) -> str:
        """Called by pyarrow, which counts rows from 1, the names of columns included."""
        if len(self.rows) == _MOST_MALFORMED:
            return "error"
        self.rows.append(row.number - 2)
        self.texts.append(row.text[: lines.KEPT_BYTES])
        wrong = _FEWER if row.actual_columns < row.expected_columns else _MORE
        self.reasons.append(f"row {row.number}: {wrong}")
        return "skip"

    def places(self, first: int, good: int) -> tuple[Int64Array, Any]:
        """The numbers of the rows from `first` to the last of some good ones, and which of them are malformed."""
        end = first + good
        for row in self.rows:
            if row >= end:
                break
            end += 1
        rows = np.arange(first, end)
        return rows, np.isin(rows, self.rows)

    def give(self, count: int) -> tuple[list[str], list[str]]:
        """The texts and reasons of the next ones."""
        given = self.texts[:count], self.reasons[:count]
        for waiting in (self.rows, self.texts, self.reasons):
            del waiting[:count]
        return given


def _read(
    opened: ExitStack, file: Place, names: Sequence[str], wanted: Sequence[str], bad: _Malformed
) -> Iterator[pa.Table]:
    """The rows that have as many fields as there are columns."""
    from pyarrow import csv as arrow_csv

    block, size = lines.sample(file, 0)
    if block is not None and size <= block.size and block.data[: block.size].tobytes().count(b"\n") == 1:
        return  # names of columns, which pyarrow takes for nothing where no newline follows them
    stream = opened.enter_context(file.open())
    if codec := lines.codec_of(file.name):
        stream = opened.enter_context(pa.CompressedInputStream(stream, codec))
    reader = arrow_csv.open_csv(
        stream,
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=arrow_csv.ParseOptions(
            delimiter=_delimiter(file.name), newlines_in_values=True, invalid_row_handler=bad.note
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=list(wanted), strings_can_be_null=False
        ),
    )
    batches = opened.enter_context(reader)
    while True:
        try:
            batch = next(batches, None)
        except pa.ArrowInvalid as error:
            if len(bad.rows) == _MOST_MALFORMED:
                raise OSError(f"{_MOST_MALFORMED:,} malformed rows close together; is it another format?") from error
            raise
        if batch is None:
            return
        yield pa.Table.from_batches([batch])


def _names(file: Place) -> list[str]:
    """The first row. Raises OSError."""
    block, _ = lines.sample(file, 0)
    if block is None:
        raise OSError("expected a row with the names of columns, found an empty file")
    rows = csv.reader(block.data[: block.size].tobytes().decode().splitlines(True), delimiter=_delimiter(file.name))
    try:
        return next(row for row in rows if row)
    except (csv.Error, StopIteration) as error:
        raise OSError("expected a row with the names of columns, found none") from error


def _delimiter(name: str) -> str:
    return "\t" if ".tsv" in name.lower()[-9:] else ","
