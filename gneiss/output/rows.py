"""Rows of a stream of tables, as many at a time as are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


class Rows:
    """A stream of tables with the same columns, read in portions of any size."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._waiting = pa.table({})

    def take(self, count: int) -> pa.Table:
        """The next rows: this many, or fewer where no more are left."""
        found = [self._waiting] if self._waiting.num_rows else []
        rows = self._waiting.num_rows
        while rows < count and (table := next(self._tables, None)) is not None:
            found.append(table)
            rows += table.num_rows
        if not found:
            return self._waiting
        together = pa.concat_tables(found)
        self._waiting = together.slice(count)
        return together.slice(0, count)
