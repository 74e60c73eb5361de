"""JSON Lines: one object a line, in ranges of bytes of plain and seekable files, or whole files."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import pyarrow as pa

from gneiss.errors import printable
from gneiss.input.columns import find_path
from gneiss.input.formats import json_tree, json_values, lines
from gneiss.input.formats.format import MALFORMED, POSITION, CutFile, Part
from gneiss.input.formats.json_columns import Column, array_of, columns_of, note, schema_of
from gneiss.input.formats.json_rows import Rows, rows_of, scanned_rows
from gneiss.input.formats.json_scan import Scanned
from gneiss.input.formats.json_tree import ROOT, Tree
from gneiss.input.formats.json_values import PADDING, WRONG
from gneiss.store.place import Place

#: What is held of a file at once: a block of lines, the values in it, and the columns that they become.
_TABLE_BYTES = 4 << 23
#: Compressed files that are smaller than this part of a shard are not searched for a table of frames.
_LIKELY_RATIO = 16
#: How many parts a worker remembers the columns of.
_MOST_SURVEYS = 4
#: As much is held of a part when it is read first: of what is beside its texts, for later reads, and of these, for one.
_MOST_HELD_BYTES, _MOST_TEXT_BYTES = 1 << 26, 1 << 28
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """What was found when a part was read. rows: all of them without their texts; None: they are too large."""

    columns: tuple[Column, ...]
    rows: Sequence[Rows] | None


@dataclass(frozen=True)
class Jsonl:
    """Files of JSON Lines. Parts count bytes.

    text: the column of the text, or the path to it; expected: columns that samples of the input's files have; surveys:
    columns of the parts that a worker has read in full.
    """

    text: tuple[str, ...] = ()
    expected: pa.Schema = field(default_factory=lambda: pa.schema([]))
    surveys: dict[tuple[Place, Part], Survey] | None = field(default=None, compare=False)
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
        found = file.find()
        on_disk = found.size_bytes if found else 0
        frames = lines.frames(file) if on_disk > part_max_bytes // _LIKELY_RATIO else None
        size = frames.size if frames else size
        tree = Tree()
        rows = [] if block is None else list(scanned_rows(block, tree))
        count = sum(len(row) for row in rows)
        good = sum(int((row.wrong == json_values.FINE).sum()) for row in rows)
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
        parts = max(1, -(-text_bytes // part_max_bytes))
        edges = [number * on_disk // parts for number in range(parts + 1)]
        if lines.codec_of(file.name):
            edges = frames.edges(parts) if frames else [0, on_disk]
        parts = len(edges) - 1
        beside = min(max(size - text_bytes, 0) // parts, _MOST_HELD_BYTES) + (frames.largest if frames else 0)
        return CutFile(
            schema,
            tuple(
                Part(
                    "" if parts == 1 else f".b{low:012d}", low, high, None, text_bytes // parts, held_bytes // parts,
                    _TABLE_BYTES + beside, likely_rows=likely // parts,
                )
                for low, high in pairwise(edges)
            ),
            lines.digest(file),
        )  # fmt: skip

    def schema(self, file: Place, part: Part) -> pa.Schema:
        """See Format."""
        return schema_of(self._survey(file, part).columns)

    def tables(self, file: Place, part: Part, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """See Format."""
        tree, text = self._tree()
        if columns is not None and len(self.text) == 1 and {*columns} <= {*self.text, POSITION, MALFORMED}:
            known = {self.text[0]: Column(self.text[0], text[0], pa.string(), False)}
            for rows in self._rows(file, part, tree, text):
                yield rows.table(columns, known, {})
            return
        texts = deque[pa.Array]()
        paths = [find_path(self.expected, name) for name in columns or ()]
        survey = self._survey(file, part, texts if any(path[:1] == self.text[:1] for path in paths) else None)
        known, schema = {column.name: column for column in survey.columns}, schema_of(survey.columns)
        names = [*known, POSITION] if columns is None else _top_level(schema, columns)
        if survey.rows is not None and (texts or self.text[0] not in names):
            for rows in survey.rows:
                yield rows.table(names, known, {text[-1]: texts.popleft()} if texts else {})
            return
        for rows in self._rows(file, part, tree, text):
            yield rows.table(names, known, {})

    def _rows(self, file: Place, part: Part, tree: Tree, text: Sequence[int]) -> Iterator[Rows]:
        """All rows of a part, from the file."""
        is_whole = lines.codec_of(file.name) and not part.name
        for block in lines.blocks(file, part.start, None if is_whole else part.end, PADDING):
            yield from rows_of(block, tree, text, part)

    def _tree(self) -> tuple[Tree, list[int]]:
        """The tree of a part before any of its rows, and the nodes on the way to the text."""
        tree = Tree()
        note(tree, self.expected)
        nodes = [ROOT]
        for name in self.text:
            nodes.append(tree.child(nodes[-1], name))
            tree.kinds[nodes[-1]] |= json_tree.OBJECT
        return tree, nodes[1:]

    def _survey(self, file: Place, part: Part, texts: deque[pa.Array] | None = None) -> Survey:
        """What all rows of a part say of its columns. texts: where to put the texts beside `rows`, if not too large."""
        if self.surveys is not None and (file, part) in self.surveys:
            return self.surveys[file, part]
        tree, text = self._tree()
        held: list[Rows] | None = []
        free, text_free = _MOST_HELD_BYTES, _MOST_TEXT_BYTES
        for rows in self._rows(file, part, tree, text):
            if held is not None:
                held.append(rows.without(text[-1]))
                free -= held[-1].nbytes
                if texts is not None:
                    texts.append(array_of(rows.scanned, Column("", text[-1], pa.string(), False), {}))
                    text_free -= texts[-1].nbytes
                if min(free, text_free) < 0:
                    held = None
                    if texts is not None:
                        texts.clear()
        columns = columns_of(tree, text)
        survey = Survey(columns, held)
        if self.surveys is not None:
            for key, earlier in self.surveys.items():
                self.surveys[key] = replace(earlier, rows=None)
            self.surveys[file, part] = survey
            while len(self.surveys) > _MOST_SURVEYS:
                self.surveys.pop(next(iter(self.surveys)))
        if mixed := [column.name for column in columns if column.is_json]:
            named = ", ".join(map(repr, mixed))
            _log.warning("%s: values of several types are kept as JSON in %s", printable(file), named)
        return survey


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


def _top_level(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """The columns that names or paths are in. Raises OSError where a path leads into one that is no struct."""
    paths = {name: find_path(schema, name) or (name,) for name in columns}
    for name, (first, *_) in paths.items():
        if first not in (*schema.names, POSITION, MALFORMED):
            raise OSError(f"no column {name!r}: {name.partition('.')[0]!r} holds values of several types")
    return list(dict.fromkeys(path[0] for path in paths.values()))


def _bytes_at(rows: Sequence[Scanned], tree: Tree, path: Sequence[str]) -> int:
    """The bytes of the values that a path leads to."""
    node = ROOT
    for name in path:
        node = tree.child(node, name)
    return sum(int((row.value_end - row.value_start)[row.node == node].sum()) for row in rows) if path else 0
