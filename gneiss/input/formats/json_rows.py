"""Rows of JSON lines: what of a block is kept until the columns of its part are known, and the tables made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int32Array, Int64Array
from gneiss.input.formats import json_scan, json_values, lines
from gneiss.input.formats.format import MALFORMED, POSITION, Part
from gneiss.input.formats.json_columns import Column, array_of, copied, schema_of
from gneiss.input.formats.json_scan import Scanned, scan
from gneiss.input.formats.json_tree import Tree
from gneiss.input.formats.json_values import WRONG
from gneiss.input.formats.lines import Block


@dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive rows of a part.

    positions: int64 (rows,), the bytes of the file where they begin; reasons: strings (rows,), what is wrong, if
    anything is.
    """

    scanned: Scanned
    positions: pa.Array
    reasons: pa.Array

    def table(self, names: Sequence[str], known: Mapping[str, Column], made: Mapping[int, pa.Array]) -> pa.Table:
        """Columns by name, POSITION and MALFORMED among them. made: values of nodes that are there already."""
        columns = schema_of([known[name] for name in names if name in known])
        arrays = [array_of(self.scanned, known[name], made) for name in columns.names]
        table = pa.Table.from_arrays([*arrays, self.positions], schema=columns.append(pa.field(POSITION, pa.int64())))
        return table.append_column(MALFORMED, self.reasons).select(list(names))

    def without(self, node: int) -> Rows:
        """The same rows without the bytes of the values of a node: as much as a part can be held of."""
        return replace(self, scanned=_without(self.scanned, node))

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        rows = self.scanned
        arrays = rows.data, rows.line, rows.start, rows.end, rows.wrong, rows.wrong_at, rows.row, rows.node, rows.kind
        return sum(array.nbytes for array in (*arrays, rows.value_start, rows.value_end, self.positions, self.reasons))


def rows_of(block: Block, tree: Tree, text: Sequence[int], part: Part) -> Iterator[Rows]:
    """The rows of a block of a part. text: the nodes on the way to their text."""
    for rows in scanned_rows(block, tree):
        rows = _with_text(rows, text)
        yield Rows(rows, pa.array(rows.start + block.first_byte), _reasons(rows, block, part))


def scanned_rows(block: Block, tree: Tree) -> Iterator[Scanned]:
    """The rows of a block."""
    if block.is_cut:
        none, no_cells = np.zeros(1, np.int64), np.zeros(0, np.int32)
        wrong, end = np.full(1, json_values.LONG, np.int32), np.full(1, block.size - 1, np.int64)
        places = np.zeros(0, np.int64)
        yield Scanned(block.data, none, none, end, wrong, none, no_cells, no_cells, no_cells, places, places)
        return
    yield from scan(block.data, block.size, tree, _not_utf8(block))


def _not_utf8(block: Block) -> Int64Array:
    """Where lines start that are not UTF-8."""
    whole = memoryview(block.data.data)[: block.size]
    if _is_utf8(whole):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(block.data[: block.size] == ord("\n")) + 1
    starts = np.append(0, ends[:-1])
    bad = [not _is_utf8(whole[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return np.asarray(starts[bad], np.int64)


def _is_utf8(data: memoryview) -> bool:
    offsets = pa.array([0, len(data)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _with_text(rows: Scanned, text: Sequence[int]) -> Scanned:
    """Rows in which what stands in the place of a text that cannot be read is its bytes, or the start of them."""
    start, end = rows.start.copy(), rows.end.copy()
    wrong, wrong_at = rows.wrong.copy(), rows.wrong_at.copy()
    for node in text:
        cells = np.flatnonzero(rows.node == node)
        fine = (json_scan.IS_STRING, json_scan.IS_ESCAPED) if node == text[-1] else (json_scan.IS_OBJECT,)
        other = cells[~np.isin(rows.kind[cells], (json_scan.IS_NULL, *fine))]
        is_string = np.isin(rows.kind[other], (json_scan.IS_STRING, json_scan.IS_ESCAPED))
        at = rows.row[other]
        start[at], end[at] = rows.value_start[other] - is_string, rows.value_end[other] + is_string
        wrong[at], wrong_at[at] = json_values.NO_STRING, start[at] - rows.start[at]
    bad = np.flatnonzero(wrong)
    if not len(bad):
        return rows
    depth = len(text)
    kinds = [json_scan.IS_OBJECT] * (depth - 1) + [json_scan.IS_STRING]
    return replace(
        rows,
        wrong=wrong,
        wrong_at=wrong_at,
        row=np.append(rows.row, np.tile(bad, depth)),
        node=np.append(rows.node, np.repeat(text, len(bad))),
        kind=np.append(rows.kind, np.repeat(kinds, len(bad))),
        value_start=np.append(rows.value_start, np.tile(start[bad], depth)),
        value_end=np.append(rows.value_end, np.tile(np.minimum(end, start + lines.KEPT_BYTES)[bad], depth)),
    )


def _reasons(rows: Scanned, block: Block, part: Part) -> pa.Array:
    """What is wrong with rows, with the numbers of their lines; null where nothing is."""
    reasons: list[str | None] = [None] * len(rows)
    behind = f" from byte {part.start} on" if part.start else ""
    for row in np.flatnonzero(rows.wrong).tolist():
        at = f", byte {rows.wrong_at[row] + 1}" if rows.wrong_at[row] else ""
        reasons[row] = f"line {block.first_line + rows.line[row] + 1}{behind}{at}: {WRONG[rows.wrong[row]]}"
    return pa.array(reasons, pa.string())


def _without(rows: Scanned, node: int) -> Scanned:
    """Rows whose values of a node are empty, and whose data is no longer than that takes."""
    low, high = rows.end.copy(), rows.end.copy()
    cells = np.flatnonzero(rows.node == node)
    low[rows.row[cells]], high[rows.row[cells]] = rows.value_start[cells], rows.value_end[cells]
    bad = (rows.wrong != json_values.FINE) & (rows.wrong != json_values.NO_STRING)  # nothing but a text
    low[bad], high[bad] = rows.start[bad], rows.end[bad]
    pieces = np.stack([rows.start, low, high, rows.end], axis=1).reshape(-1, 2)
    data, offsets = copied(rows.data, pieces[:, 0], pieces[:, 1], np.zeros(len(pieces), np.bool_))
    first = offsets[:-1:2].astype(np.int64)

    def moved(places: Int64Array, row: Int32Array) -> Int64Array:
        cut = np.clip(places - low[row], 0, high[row] - low[row])
        return np.asarray(places - rows.start[row] + first[row] - cut, np.int64)

    every = np.arange(len(rows), dtype=np.int32)
    return Scanned(
        data, rows.line.copy(), first, moved(rows.end, every), rows.wrong, rows.wrong_at.copy(), rows.row.copy(),
        rows.node.copy(), rows.kind.copy(), moved(rows.value_start, rows.row), moved(rows.value_end, rows.row),
    )  # fmt: skip
