"""JSON Lines: one object a line, in ranges of bytes of plain files, or whole files where they are compressed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.input.columns import find_path
from gneiss.input.formats import json_scan, json_tree, json_values, lines
from gneiss.input.formats.format import MALFORMED, POSITION, CutFile, Part
from gneiss.input.formats.json_columns import Column, array_of, columns_of, note, schema_of
from gneiss.input.formats.json_scan import Scanned, scan
from gneiss.input.formats.json_tree import ROOT, Tree
from gneiss.input.formats.json_values import PADDING, WRONG
from gneiss.input.formats.lines import Block
from gneiss.store.place import Place

#: What is held of a file at once: a block of lines, the values in it, and the columns that they become.
_TABLE_BYTES = 4 << 23
#: How many parts a worker remembers the columns of.
_MOST_SURVEYS = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jsonl:
    """Files of JSON Lines. Parts count bytes.

    text: the column of the text, or the path to it; expected: columns that samples of the input's files have; surveys:
    columns of the parts that a worker has read in full.
    """

    text: tuple[str, ...] = ()
    expected: pa.Schema = field(default_factory=lambda: pa.schema([]))
    surveys: dict[tuple[Place, Part], tuple[Column, ...]] | None = field(default=None, compare=False)
    suffixes: ClassVar[tuple[str, ...]] = (
        *(f"{name}{codec}" for name in (".jsonl", ".ndjson", ".jsonlines") for codec in ("", *lines.CODECS)),
        *(f".json{codec}" for codec in lines.CODECS),
    )
    counts_rows: ClassVar[bool] = False
    finds_malformed: ClassVar[bool] = True

    def together(self, text: str, schemas: Sequence[pa.Schema]) -> tuple[Jsonl, Sequence[pa.Schema]]:
        """See Format: a column that any file has is one of all, and of a type that holds the values of all."""
        tree = Tree()
        for schema in dict.fromkeys(schemas):
            note(tree, schema)
        expected = schema_of(columns_of(tree))
        return replace(self, text=find_path(expected, text), expected=expected), [expected] * len(schemas)

    def for_worker(self) -> Jsonl:
        """See Format."""
        return replace(self, surveys={})

    def digest(self, file: Place) -> str:
        """See Format."""
        return lines.digest(file)

    def cut(self, file: Place, text: str, part_max_bytes: int, held: Sequence[str] = ()) -> CutFile:
        """See Format: by a sample of the first lines."""
        block, size = lines.sample(file, PADDING)
        tree = Tree()
        rows = [] if block is None else list(_scanned(block, tree))
        count = sum(len(its) for its in rows)
        good = sum(int((its.wrong == json_values.FINE).sum()) for its in rows)
        schema = schema_of(columns_of(tree, _text_nodes(tree, text)))
        if not good and (count == 0 or (block is not None and block.is_cut)):  # nothing says that it has other columns
            schema = pa.schema([(name, pa.string() if name == text else pa.null()) for name in (text, *held)])
        elif rows and (not good or rows[0].data[rows[0].start[0]] == ord("[")):
            hint = "; a file that is one array is no JSON Lines" if rows[0].data[rows[0].start[0]] == ord("[") else ""
            raise OSError(f"expected a JSON object on each line; line 1: {WRONG[rows[0].wrong[0]]}{hint}")
        sampled = max(block.size if block else 0, 1)
        sizes = {name: _bytes_at(rows, tree, find_path(schema, name)) * size // sampled for name in (text, *held)}
        text_bytes, held_bytes = sizes[text], sum(sizes[name] for name in held if name != text)
        likely = count * size // sampled
        opened = file.find()
        on_disk = opened.size_bytes if opened else 0
        parts = 1 if lines.codec_of(file.name) else max(1, -(-text_bytes // part_max_bytes))
        edges = [number * on_disk // parts for number in range(parts + 1)]
        return CutFile(
            schema,
            tuple(
                Part(
                    "" if parts == 1 else f".b{low:012d}", low, high, None, text_bytes // parts, held_bytes // parts,
                    _TABLE_BYTES, likely_rows=likely // parts,
                )
                for low, high in pairwise(edges)
            ),
            lines.digest(file),
        )  # fmt: skip

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format."""
        return schema_of(self._survey(file, part))

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        tree, text = self._tree()
        if columns is not None and len(self.text) == 1 and {*columns} <= {*self.text, POSITION, MALFORMED}:
            known: Mapping[str, Column] = {self.text[0]: Column(self.text[0], text[0], pa.string(), False)}
            names = list(columns)
        else:
            survey = self._survey(file, part)
            known, schema = {its.name: its for its in survey}, schema_of(survey)
            names = [*known, POSITION] if columns is None else _top_level(schema, columns)
        for block in lines.blocks(file, part.start, part.end, PADDING):
            for rows in _scanned(block, tree):
                rows = _with_text(rows, text)
                yield _table(rows, names, known, block, part)

    def _tree(self) -> tuple[Tree, list[int]]:
        """The tree of a part before any of its rows, and the nodes on the way to the text."""
        tree = Tree()
        note(tree, self.expected)
        nodes = [ROOT]
        for name in self.text:
            nodes.append(tree.child(nodes[-1], name))
            tree.kinds[nodes[-1]] |= json_tree.OBJECT
        return tree, nodes[1:]

    def _survey(self, file: Place, part: Part) -> tuple[Column, ...]:
        """The columns of a part: what all its rows hold."""
        if self.surveys is not None and (file, part) in self.surveys:
            return self.surveys[file, part]
        tree, text = self._tree()
        for block in lines.blocks(file, part.start, part.end, PADDING):
            for _ in _scanned(block, tree):
                pass
        columns = columns_of(tree, text)
        if self.surveys is not None:
            self.surveys[file, part] = columns
            while len(self.surveys) > _MOST_SURVEYS:
                self.surveys.pop(next(iter(self.surveys)))
        if mixed := [its.name for its in columns if its.is_json]:
            _log.warning("%s: values of several types are kept as JSON in %s", file, ", ".join(map(repr, mixed)))
        return columns


def _text_nodes(tree: Tree, name: str, parent: int = ROOT) -> list[int]:
    """The nodes on the way to the text that a name or path means, if there are objects and strings on it."""
    for member in tree.members(parent):
        key = tree.name(member)
        if key == name and tree.kinds[member] & json_tree.STRING:
            return [member]
        is_on_the_way = name.startswith(f"{key}.") and tree.kinds[member] & json_tree.OBJECT
        if is_on_the_way and (rest := _text_nodes(tree, name.removeprefix(f"{key}."), member)):
            return [member, *rest]
    return []


def _scanned(block: Block, tree: Tree) -> Iterator[Scanned]:
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


def _table(rows: Scanned, names: Sequence[str], known: Mapping[str, Column], block: Block, part: Part) -> pa.Table:
    columns = schema_of([known[name] for name in names if name in known])
    arrays = [array_of(rows, known[name]) for name in columns.names]
    columns = columns.append(pa.field(POSITION, pa.int64()))
    table = pa.Table.from_arrays([*arrays, pa.array(rows.start + block.first_byte)], schema=columns)
    if MALFORMED in names:
        table = table.append_column(MALFORMED, _reasons(rows, block, part))
    return table.select(names)


def _reasons(rows: Scanned, block: Block, part: Part) -> pa.Array:
    """What is wrong with rows, with the numbers of their lines; null where nothing is."""
    reasons: list[str | None] = [None] * len(rows)
    behind = f" from byte {part.start} on" if part.start else ""
    for row in np.flatnonzero(rows.wrong).tolist():
        at = f", byte {rows.wrong_at[row] + 1}" if rows.wrong_at[row] else ""
        reasons[row] = f"line {block.first_line + rows.line[row] + 1}{behind}{at}: {WRONG[rows.wrong[row]]}"
    return pa.array(reasons, pa.string())


def _top_level(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """The columns that names or paths are in."""
    paths = (find_path(schema, name) or (name,) for name in columns)
    return list(dict.fromkeys(path[0] for path in paths))


def _bytes_at(rows: Sequence[Scanned], tree: Tree, path: Sequence[str]) -> int:
    """The bytes of the values that a path leads to."""
    node = ROOT
    for name in path:
        node = tree.child(node, name)
    return sum(int((its.value_end - its.value_start)[its.node == node].sum()) for its in rows) if path else 0
